"""LRCN for image captions: CaffeNet, two LSTMs of 1000 units, a vocabulary of 8801 words.

Values: synthetic, at the published precisions where there are any.

Shapes: Donahue et al., CVPR 2015 (arXiv 1411.4389), as Caffe's coco_caption example in its factored form:
the second LSTM also reads the image, through a product that is made once (`lstm2.static`) and added in
post-processing. The input sentence is embedded already (a look-up computes nothing); a sentence has 20 words.
Convolutions have the precisions published for AlexNet, 9-7-4-5-7 bits, which CaffeNet resembles.
Assumptions: everything else takes 9 bits, weights 11.
"""

from alexnet import table

import dpred_sim as dp

PRECISION = 9
WORDS = 20
UNITS = 1000
VOCABULARY = 8801


def workload(*, bits: int, seed: int) -> dp.Workload:
    """LRCN with drawn values, `bits` wide at most."""
    net = table(bits, seed, fitted=True)  # ends in fc8, the image's 1000 features
    net.linear("lstm2.static", 4 * UNITS, precision=PRECISION, relu=False)
    sentence = net.given("sentence", (WORDS, UNITS), relu=False)
    net.lstm("lstm1", UNITS, precision=PRECISION, reads=sentence)
    net.lstm("lstm2", UNITS, precision=PRECISION)
    net.linear("predict", VOCABULARY, precision=PRECISION, relu=False)
    return net.workload("lrcn", f"synthetic values (seed {seed}) at published and assumed precisions")


if __name__ == "__main__":
    dp.run_script(__file__)
