"""Small stand-ins of published data and models, in the same folders and files with the same syntax."""

import itertools
import json

import torch

from lorascope.zoo.families.arc.questions import SOURCES
from tests.zoo.conftest import make_base

THINGS = ("rock", "plant", "magnet", "cloud", "river", "moth", "lever", "planet")
ANSWERS = (
    "grows in light",
    "is pulled by iron",
    "is made of water drops",
    "orbits a star",
    "moves",
)
WORDS = "Question: Which of these is true of a in the exam Answer : grows light pulled by iron"


def write_arc(folder, train=48, others=12):
    """ARC's archive: every source has a training question, Mercury every other."""
    for name in ("Easy", "Challenge"):
        for part, count in (("Train", train), ("Dev", others), ("Test", others)):
            lines = [json.dumps(arc_question(name, part, i)) for i in range(count)]
            file = folder / f"ARC-{name}" / f"ARC-{name}-{part}.jsonl"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("\n".join(lines) + "\n")
    return folder


def arc_question(name, part, i):
    source = "Mercury" if i % 2 else SOURCES[1 + (i // 2) % 19]
    thing, right = THINGS[i % len(THINGS)], i % len(ANSWERS)
    numeric = i % 7 == 0  # some exams number their options
    labels = "1234" if numeric else "ABCD"
    count = 3 if i % 11 == 5 else 4
    chosen = [ANSWERS[(right + k) % len(ANSWERS)] for k in range(count)]
    at = i % count
    chosen[0], chosen[at] = chosen[at], chosen[0]
    return {
        "id": f"CSZ{i}{part}" if source == "CSZ" else f"{source}_{name}_{i}",
        "question": {
            "stem": f"Which of these is true of a {thing} in the {part} exam {i}?",
            "choices": [
                {"text": text, "label": label} for text, label in zip(chosen, labels, strict=False)
            ],
        },
        "answerKey": labels[at],
    }


def write_tokenizer(folder, begins=False, words=()):
    """A byte-level BPE in tokenizer.json; Llama's begins every text with a token."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    texts = list(itertools.chain(THINGS, ANSWERS, [WORDS], words))
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|begin_of_text|>", "<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    if begins:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<|begin_of_text|> $A", special_tokens=[("<|begin_of_text|>", 0)]
        )
    tokenizer.save(str(folder / "tokenizer.json"))
    return tokenizer


ROTARY = {
    "factor": 32.0,
    "high_freq_factor": 4.0,
    "low_freq_factor": 1.0,
    "original_max_position_embeddings": 64,
    "rope_type": "llama3",
}


def write_language_base(folder, kind="qwen2"):
    """A tiny random Qwen2 or Llama with its tokenizer, laid out as Qwen2-1.5B and Llama-3.2-3B are.

    Both share the weights of words with the head; Llama has a head_dim of its own, slower angles, and its
    weights in several files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sizes = {"vocab_size": 400, "max_position_embeddings": 256, "tie_word_embeddings": True}
    if kind == "llama":
        made = make_base(kind, torch.float32, **sizes, head_dim=8, rope_scaling=ROTARY)
        made.save_pretrained(folder, max_shard_size="40KB")
    else:
        make_base(kind, torch.float32, **sizes).save_pretrained(folder)
    write_tokenizer(folder, begins=kind == "llama")
    return folder


def clip_words():
    """CLIP's tokenizer with letters alone: no merges."""
    from transformers import CLIPTokenizer

    letters = [chr(code) for code in range(33, 127)]
    tokens = [*letters, *(f"{letter}</w>" for letter in letters)]
    vocabulary = {token: i for i, token in enumerate([*tokens, "<|startoftext|>", "<|endoftext|>"])}
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=77)


def write_diffusion(folder):
    """A tiny random StableDiffusionPipeline of 16 pixels, as save_pretrained leaves it."""
    from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionPipeline
    from diffusers import UNet2DConditionModel as UNet
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(2)
    words = clip_words()
    text = CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
    )
    pipeline = StableDiffusionPipeline(
        vae=AutoencoderKL(
            sample_size=16,
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            block_out_channels=(8, 8),
            layers_per_block=1,
            norm_num_groups=4,
        ),
        unet=UNet(
            sample_size=8,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            block_out_channels=(16, 24),
            layers_per_block=1,
            cross_attention_dim=16,
            attention_head_dim=2,
            norm_num_groups=4,
        ),
        text_encoder=CLIPTextModel(text),
        tokenizer=words,
        scheduler=PNDMScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            skip_prk_steps=True,
            set_alpha_to_one=False,
            steps_offset=1,
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder)
    return folder


def write_clip(folder):
    """A tiny random CLIPModel with its processor, as openai/clip-vit-base-patch16 is laid out."""
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor

    torch.manual_seed(3)
    words = clip_words()
    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 2}
    special = {
        "vocab_size": len(words),
        "bos_token_id": words.bos_token_id,
        "eos_token_id": words.eos_token_id,
        "pad_token_id": words.pad_token_id,
    }
    config = CLIPConfig(
        text_config={**small, **heads, **special},
        vision_config={**small, **heads, "image_size": 24, "patch_size": 8},
        projection_dim=12,
    )
    CLIPModel(config).save_pretrained(folder)
    pixels = CLIPImageProcessor(
        size={"shortest_edge": 24}, crop_size={"height": 24, "width": 24}, resample=3
    )
    CLIPProcessor(pixels, words).save_pretrained(folder)
    if not (folder / "preprocessor_config.json").is_file():  # transformers 5 writes it elsewhere
        pixels.save_pretrained(folder)
    return folder


def write_picture(file, seed, size=(18, 22)):
    """A smooth random picture."""
    from PIL import Image

    file.parent.mkdir(parents=True, exist_ok=True)
    numbers = torch.rand(4, 4, 3, generator=torch.Generator().manual_seed(seed)).mul(255).byte()
    Image.fromarray(numbers.numpy()).resize(size, Image.Resampling.BICUBIC).save(file)


ATTRIBUTES = (
    "5_o_Clock_Shadow Arched_Eyebrows Attractive Bags_Under_Eyes Bald Bangs Big_Lips Big_Nose "
    "Black_Hair Blond_Hair Blurry Brown_Hair Bushy_Eyebrows Chubby Double_Chin Eyeglasses Goatee "
    "Gray_Hair Heavy_Makeup High_Cheekbones Male Mouth_Slightly_Open Mustache Narrow_Eyes No_Beard "
    "Oval_Face Pale_Skin Pointy_Nose Receding_Hairline Rosy_Cheeks Sideburns Smiling Straight_Hair "
    "Wavy_Hair Wearing_Earrings Wearing_Hat Wearing_Lipstick Wearing_Necklace Wearing_Necktie Young"
)


def write_celeba(folder, people=7, photographs=4):
    """CelebA's two lists and pictures; people have a picture more or less."""
    generator = torch.Generator().manual_seed(4)
    attributes, identities = [], []
    for i in range(people * photographs):
        name, who = f"{i + 1:06d}.jpg", 100 + (i * 5) % people
        write_picture(folder / "img_align_celeba" / name, i)
        flags = torch.rand(40, generator=generator) < 0.5
        attributes.append(f"{name} " + " ".join(" 1" if flag else "-1" for flag in flags))
        identities.append(f"{name} {who}")
    head = [str(len(attributes)), ATTRIBUTES]
    (folder / "list_attr_celeba.txt").write_text("\n".join([*head, *attributes]) + "\n")
    (folder / "identity_CelebA.txt").write_text("\n".join(identities) + "\n")
    return folder


def write_imagenette(folder, pictures=3):
    """Imagenette's folders with a few pictures of each class."""
    from lorascope.zoo.families.imagenette.classes import CLASSES

    for k, code in enumerate(CLASSES):
        for i in range(pictures):
            part = "val" if i == pictures - 1 else "train"
            file = folder / part / code / f"{code}_{i}.JPEG"
            write_picture(file, 100 * k + i)
    return folder
