"""A model card of two networks, as Hugging Face reads it."""

from importlib.metadata import version

import yaml

from manet_lib.inference.networks import Networks

_PHANTOMS = "These are phantoms, drawn by a computer: the networks have never been trained on real radiographs."
_TEXT = """\
# {title}

**Research software, no diagnosis.** Networks of both stages of MANet (Xu, Lam, Jia, Neurocomputing 443,
2021): a ResUNet finds the lungs, {model} classifies what is inside them as {classes}.

## Use

```
manet predict IMAGE_OR_FOLDER --weights manet.safetensors
```

or `manet_lib.inference.predict.MANet.from_file("manet.safetensors").predict("image.png")`. Frontal chest
radiographs of any size are resized to {size}×{size} pixels. Probabilities are calibrated on the validation
images (temperature {temperature:.2f}).

## Training

Images: {train} for training, {val} for validation, {test} for testing, source `{source}`. {phantoms} SHA-256
of the list of images and its split: `{manifest}`.

## Results

Of the {tested} test images {accuracy} are correctly classified (95% interval over patients). The expected
calibration error is {before} as trained and {after} with the temperature.

## Limits

One split of one collection: another split, or another collection, would give another accuracy. A prediction
comes with a warning if the features of stage 1 are farther from those of the training images than {farthest:.2f}
(a typical image has a distance of 1; 95% of the validation images are nearer, and {outside} of the test images
are not), if no lungs are found, or if area, brightness or contrast of the lungs lie outside the range of the
training images. Not every image that is out of distribution gets a warning.
"""


def model_card(networks: Networks) -> str:
    """The card as Markdown with a YAML head."""
    usage, params = networks.usage, networks.params
    assert usage is not None, "a card says what is known of the networks"
    title = f"MANet, {params.models[0]}, trained on {params.profile}"
    mean, low, high = usage.results["test accuracy"]
    errors = usage.results["expected calibration error"]
    result = {
        "task": {"type": "image-classification"},
        "dataset": {"name": params.profile, "type": usage.data["source"]},
        "metrics": [{"type": "accuracy", "value": mean}],
    }
    head = {
        "license": "mit",
        "library_name": "manet-companion",
        "pipeline_tag": "image-classification",
        "tags": ["medical-imaging", "chest-x-ray", "mask-attention", "research-only"],
        "model-index": [{"name": title, "results": [result]}],
    }
    text = _TEXT.format(
        title=title,
        model=params.models[0],
        classes=", ".join(params.classes),
        size=params.image_size,
        temperature=usage.temperature,
        **usage.data["images"],
        source=usage.data["source"],
        phantoms=_PHANTOMS if usage.data["source"] == "phantom" else "",
        manifest=usage.data["manifest_sha256"],
        tested=usage.results["test images"],
        accuracy=f"{mean:.1%} ({low:.1%} to {high:.1%})",
        before=f"{errors['as trained']:.3f}",
        after=f"{errors['calibrated']:.3f}",
        farthest=usage.farthest,
        outside=f"{usage.results['called out of distribution']:.0%}",
    )
    made_by = f"*manet-companion {version('manet-companion')}*"
    return f"---\n{yaml.safe_dump(head, sort_keys=False)}---\n\n{text}\n{made_by}\n"
