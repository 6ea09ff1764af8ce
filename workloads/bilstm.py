"""Bi-LSTM for image captions: AlexNet, and two LSTMs of 1000 units in each direction.

Values: synthetic, at the published precisions where there are any.

After Wang et al., ACM MM 2016 (arXiv 1604.00790): in each direction one LSTM reads the sentence and a second
one its hidden states and the image's 4096 features, before the words are predicted. The image enters
through a product that is made once (`static`) and added in post-processing. Convolutions have the
precisions published for AlexNet, 9-7-4-5-7 bits. Assumptions: embedding and LSTMs of 1000 units, a
vocabulary of 8801 words (as LRCN on the same captions), 20 words a sentence, embedded already; everything
but the convolutions takes 9 bits, weights 11.
"""

from alexnet import CONV_PRECISIONS, WEIGHT_PRECISION

import dpred_sim as dp
from dpred_sim.workload.tables import SyntheticNetwork

PRECISION = 9
WORDS = 20
UNITS = 1000
VOCABULARY = 8801


def workload(*, bits: int, seed: int) -> dp.Workload:
    """Bi-LSTM with drawn values, `bits` wide at most."""
    net = SyntheticNetwork((227, 227, 3), bits=bits, seed=seed, weight_precision=WEIGHT_PRECISION)
    features = image(net)
    for way in ("forward", "backward"):
        net.linear(f"{way}.static", 4 * UNITS, precision=PRECISION, reads=features, relu=False)
        sentence = net.given(f"{way}.sentence", (WORDS, UNITS), relu=False)
        net.lstm(f"{way}.text", UNITS, precision=PRECISION, reads=sentence)
        net.lstm(f"{way}.multimodal", UNITS, precision=PRECISION)
        net.linear(f"{way}.predict", VOCABULARY, precision=PRECISION, relu=False)
    return net.workload("bilstm", f"synthetic values (seed {seed}) at published and assumed precisions")


def image(net: SyntheticNetwork) -> str:
    """AlexNet up to its last features; returns the name of the layer."""
    pool = dp.Pool("max", size=(3, 3), stride=(2, 2))
    p1, p2, p3, p4, p5 = CONV_PRECISIONS
    net.conv2d("conv1", 96, 11, precision=p1, stride=4, pool=pool)
    net.conv2d("conv2", 256, 5, precision=p2, padding=2, groups=2, pool=pool)
    net.conv2d("conv3", 384, 3, precision=p3, padding=1)
    net.conv2d("conv4", 384, 3, precision=p4, padding=1, groups=2)
    net.conv2d("conv5", 256, 3, precision=p5, padding=1, groups=2, pool=pool)
    net.linear("fc6", 4096, precision=PRECISION)
    return net.linear("fc7", 4096, precision=PRECISION)


if __name__ == "__main__":
    dp.run_script(__file__)
