"""Sentences, words and the language of a text, as the official IF-Eval code counts them.

It uses NLTK and langdetect, and so does this: other splitters and detectors disagree
with them on ordinary texts. NLTK's English model comes with the package instead of a
download, and the detector's randomness is fixed.
"""

from __future__ import annotations

import gzip
import json
import re
from functools import lru_cache
from pathlib import Path

from langdetect.detector_factory import PROFILES_DIRECTORY, DetectorFactory
from langdetect.lang_detect_exception import LangDetectException
from nltk.tokenize.destructive import NLTKWordTokenizer
from nltk.tokenize.punkt import PunktParameters, PunktSentenceTokenizer

_PUNKT_MODEL = Path(__file__).resolve().parents[2] / "assets" / "punkt" / "english.json.gz"
_WORD = re.compile(r"\w+")


def split_sentences(text: str) -> list[str]:
    """The sentences by NLTK's English Punkt model."""
    return _sentence_tokenizer().tokenize(text)


def count_words(text: str) -> int:
    """Runs of letters, digits and underscores; `don't` is two."""
    return sum(1 for _ in _WORD.finditer(text))


def word_tokens(text: str) -> list[str]:
    """What `nltk.word_tokenize` gives: Penn Treebank tokens, sentence by sentence."""
    tokenizer = NLTKWordTokenizer()
    return [token for sentence in split_sentences(text) for token in tokenizer.tokenize(sentence)]


def detect_language(text: str) -> str | None:
    """The language that langdetect names, such as `en` or `zh-cn`; None for a text without one.

    The detector draws n-grams at random: with seed 0, as the official code has it, a text
    always gets the same answer.
    """
    detector = _detector_factory().create()
    try:
        detector.append(text)
        return detector.detect()
    except LangDetectException:
        return None


@lru_cache(maxsize=1)
def _sentence_tokenizer() -> PunktSentenceTokenizer:
    model = json.loads(gzip.decompress(_PUNKT_MODEL.read_bytes()))
    parameters = PunktParameters()
    parameters.abbrev_types = set(model["abbrev_types"])
    parameters.collocations = {tuple(pair) for pair in model["collocations"]}
    parameters.sent_starters = set(model["sent_starters"])
    parameters.ortho_context.update(model["ortho_context"])
    return PunktSentenceTokenizer(parameters)


@lru_cache(maxsize=1)
def _detector_factory() -> DetectorFactory:
    factory = DetectorFactory()
    factory.load_profile(PROFILES_DIRECTORY)
    factory.set_seed(0)
    return factory
