"""A ClapModel of a few thousand seeded weights, in the Hub's form: what `bench quality --clap FOLDER` reads."""

from __future__ import annotations

from pathlib import Path

WORDS = ["music", "piece", "instruct", "only", "drums", "remove", "add", "bass", "piano", "and", "guitar"]


def tiny_clap(folder: Path) -> Path:
    """Write model, feature extractor and tokenizer; needs torch."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import ClapConfig, ClapFeatureExtractor, ClapModel, ClapProcessor, PreTrainedTokenizerFast

    vocabulary = {word: i for i, word in enumerate(["<s>", "<pad>", "</s>", "<unk>", "<mask>", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        mask_token="<mask>",
        cls_token="<s>",
        sep_token="</s>",
        model_max_length=64,
    )
    config = ClapConfig(
        text_config={
            "vocab_size": len(vocabulary),
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "max_position_embeddings": 70,
            "projection_dim": 16,
        },
        audio_config={
            "patch_embeds_hidden_size": 16,
            "depths": [1, 1],
            "num_attention_heads": [2, 4],
            "num_hidden_layers": 2,
            "hidden_size": 32,
            "projection_dim": 16,
            "window_size": 8,
            "spec_size": 256,
            "num_mel_bins": 64,
            "patch_size": 4,
            "patch_stride": [4, 4],
            "enable_fusion": False,
        },
        projection_dim=16,
    )
    torch.manual_seed(0)
    model = ClapModel(config).eval()
    model.save_pretrained(folder)
    extractor = ClapFeatureExtractor(truncation="rand_trunc", padding="repeatpad")
    ClapProcessor(extractor, fast).save_pretrained(folder)
    return folder
