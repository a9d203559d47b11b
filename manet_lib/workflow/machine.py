"""What this machine is: processor and GPUs."""

import platform
import shutil
import subprocess
from pathlib import Path

_NATIVE_BF16 = {"avx512_bf16", "amx_bf16", "bf16"}
"""What Linux calls a processor's bf16 products: AVX512-BF16, AMX, and ARM's."""


def _facts(*keys: str) -> list[str]:
    """Values of some keys of /proc/cpuinfo; an empty list if the file does not exist."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.is_file() else []
    return [line.partition(":")[2].strip() for line in lines if line.startswith(keys)]


def processor_name() -> str:
    """The processor in words."""
    return next(iter(_facts("model name")), platform.processor() or platform.machine())


def processor_has_bf16() -> bool:
    """Whether the processor multiplies bf16 numbers natively, which is what makes bf16 faster than fp32."""
    return any(_NATIVE_BF16 & {*words.split()} for words in _facts("flags", "Features")[:1])


def gpu_name() -> str:
    """The first GPU in words, "" where there is none."""
    if shutil.which("nvidia-smi") is None:
        return ""
    query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    result = subprocess.run(query, capture_output=True, text=True, check=False)
    return result.stdout.splitlines()[0].strip() if result.returncode == 0 and result.stdout.strip() else ""


def gpu_count() -> int:
    """GPUs that a process started here can use: as CUDA_VISIBLE_DEVICES says, a MIG slice being one."""
    import torch

    return torch.cuda.device_count()
