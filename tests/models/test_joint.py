"""Both stages as one network: the classes reach the segmenter, Eq. 1 holds, and a dark mask tells nothing."""

import torch
import torch.nn.functional as F

from manet_lib.models.joint import JointMANet, SmallClassifier
from manet_lib.models.mask_attention import mask_maps


def image_of(side=32):
    return torch.rand(2, 1, side, side, generator=torch.Generator().manual_seed(0))


def test_logits_of_both_stages():
    lungs, classes = JointMANet(3)(image_of())
    assert lungs.shape == (2, 1, 32, 32)
    assert classes.shape == (2, 3)


def test_the_loss_of_the_classes_reaches_the_segmenter():
    torch.manual_seed(0)
    network = JointMANet()
    F.cross_entropy(network(image_of())[1], torch.tensor([0, 1])).backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in network.segmenter.parameters())


def test_a_gradient_flows_through_the_pooled_masks_too():
    torch.manual_seed(0)
    classifier, mask = SmallClassifier().eval(), torch.rand(2, 1, 32, 32).requires_grad_()
    blank = torch.zeros(2, 1, 32, 32)  # image times mask is 0 then, so that Eq. 1 alone hands a gradient on
    torch.nn.init.ones_(classifier.norms[0].bias)
    classifier(blank, mask).sum().backward()
    assert mask.grad.abs().sum() > 0


def test_it_is_mask_attention_as_elsewhere():
    torch.manual_seed(0)
    classifier, image = SmallClassifier().eval(), image_of()
    mask = (image > 0.3).float()
    x = image * mask
    layers = zip(classifier.convolutions, classifier.norms, mask_maps(mask, classifier.pools), strict=True)
    for convolution, norm, lung_map in layers:
        x = (norm(convolution(x)) * lung_map).relu()
    torch.testing.assert_close(classifier(image, mask), classifier.head(x.mean(dim=(2, 3))))


def test_a_mask_of_zeros_leaves_the_bias():
    classifier = SmallClassifier().eval()
    found = classifier(image_of(), torch.zeros(2, 1, 32, 32))
    torch.testing.assert_close(found, classifier.head.bias.expand(2, 5))
