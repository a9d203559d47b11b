"""A model card of two networks, as Hugging Face reads it."""

from __future__ import annotations

from importlib.metadata import version

import yaml

from manet_lib.networks import Networks

_PHANTOMS = "These are phantoms, drawn by a computer: the networks know nothing of real films."
_TEXT = """\
# {title}

**Research software, no diagnosis.** Networks of both stages of MANet (Xu, Lam, Jia, Neurocomputing 443,
2021): a ResUNet finds the lungs, {model} classifies what is inside them as {classes}.

## Use

```
manet predict FILM_OR_FOLDER --weights manet.safetensors
```

or `manet_lib.predict.MANet.from_file("manet.safetensors").predict("film.png")`. Frontal chest films, any
size; they are brought to {size}×{size} pixels. Probabilities are calibrated on the validation films
(temperature {temperature:.2f}).

## Training

Films: {train} for training, {val} for validation, {test} for testing, source `{source}`. {phantoms} SHA-256
of the list of films and its split: `{manifest}`.

## Results

On the {tested} test films: {accuracy} rightly classified (95% interval over patients). Expected calibration
error {before} as trained, {after} with the temperature.

## Limits

One split of one collection; the split and the collection decide much of the number above. A film is called
unlike the training's if the features of stage 1 are farther from theirs than {farthest:.2f}, where a usual
one has 1 (95% of the validation films are nearer; of the test films {unlike} are not), if no lungs are
found, or if area, brightness or contrast of the lungs are beyond all films of the training. Not every such
film is found.
"""


def model_card(networks: Networks) -> str:
    """The card as Markdown with a YAML head."""
    usage, params = networks.usage, networks.params
    assert usage is not None, "a card says what is known of the networks"
    title = f"MANet, {params.models[0]}, trained on {params.profile}"
    mean, low, high = usage.results["test accuracy"]
    errors = usage.results["expected calibration error"]
    head = {
        "license": "mit",
        "library_name": "manet-companion",
        "pipeline_tag": "image-classification",
        "tags": ["medical-imaging", "chest-x-ray", "mask-attention", "research-only"],
        "model-index": [
            {
                "name": title,
                "results": [
                    {
                        "task": {"type": "image-classification"},
                        "dataset": {"name": params.profile, "type": usage.data["source"]},
                        "metrics": [{"type": "accuracy", "value": mean}],
                    }
                ],
            }
        ],
    }
    text = _TEXT.format(
        title=title,
        model=params.models[0],
        classes=", ".join(params.classes),
        size=params.image_size,
        temperature=usage.temperature,
        **usage.data["films"],
        source=usage.data["source"],
        phantoms=_PHANTOMS if usage.data["source"] == "phantom" else "",
        manifest=usage.data["manifest_sha256"],
        tested=usage.results["test films"],
        accuracy=f"{mean:.1%} ({low:.1%} to {high:.1%})",
        before=f"{errors['as trained']:.3f}",
        after=f"{errors['calibrated']:.3f}",
        farthest=usage.farthest,
        unlike=f"{usage.results['called unlike']:.0%}",
    )
    made_by = f"*manet-companion {version('manet-companion')}*"
    return f"---\n{yaml.safe_dump(head, sort_keys=False)}---\n\n{text}\n{made_by}\n"
