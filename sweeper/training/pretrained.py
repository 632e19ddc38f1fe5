"""ImageNet weights of segmentation-models-pytorch's encoders: whether they lie in the local cache. No torch."""

from __future__ import annotations


def imagenet_cached(encoder: str) -> bool:
    """Whether the library's ImageNet weights of this encoder lie in the local cache; looks, never downloads."""
    from huggingface_hub import try_to_load_from_cache

    names = ("model.safetensors", "pytorch_model.bin")
    return any(isinstance(try_to_load_from_cache(repository(encoder), name), str) for name in names)


def repository(encoder: str) -> str:
    """Where the library takes them from, on Hugging Face's Hub; whether there are any is the Hub's to say."""
    return f"smp-hub/{encoder}.imagenet"
