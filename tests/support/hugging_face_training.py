"""A training by Hugging Face's Trainer on tiny images, as in docs/how-to/your-training.md."""

import tempfile

import torch
from transformers import SegformerConfig, SegformerForSemanticSegmentation, Trainer, TrainerCallback, TrainingArguments

from sweeper_trial import trial

torch.set_num_threads(1)
t = trial(classes=["background", "lesion"])
fixed = torch.Generator().manual_seed(7)
images = torch.randn(24, 3, 32, 32, generator=fixed)
cases = [{"pixel_values": image, "labels": (image[0] > 0.8).long()} for image in images]
sides = {"train": range(16), "val": range(16, 20), "test": range(20, 24)}


def enlarge(logits, labels):
    return torch.nn.functional.interpolate(logits, labels.shape[-2:], mode="bilinear")


class SweptTrainer(Trainer):
    def compute_loss(self, model, inputs, return_outputs=False, **_):
        labels = inputs["labels"]
        outputs = model(pixel_values=inputs["pixel_values"])
        loss = t.loss(enlarge(outputs.logits, labels), labels)
        return (loss, outputs) if return_outputs else loss


class Scores(TrainerCallback):
    def on_epoch_end(self, args, state, control, model, **_):
        score(model, "val")
        control.should_training_stop = t.stop_after(round(state.epoch))


def score(model, split):
    was_training = model.training
    model.eval()
    with torch.no_grad(), t.scoring(split) as s:
        for n in sides[split]:
            labels = cases[n]["labels"][None]
            s.add(enlarge(model(cases[n]["pixel_values"][None]).logits, labels), labels, [f"image {n}"])
    model.train(was_training)


torch.manual_seed(t.seed)
small = {"depths": [1, 1, 1, 1], "hidden_sizes": [8, 16, 16, 32], "decoder_hidden_size": 16}
model = SegformerForSemanticSegmentation(SegformerConfig(num_labels=2, **small))
with tempfile.TemporaryDirectory() as folder:
    arguments = TrainingArguments(
        folder,
        seed=t.seed,
        learning_rate=t.lr(1e-3),
        num_train_epochs=t.length(3),
        per_device_train_batch_size=4,
        save_strategy="no",
        report_to=[],
        use_cpu=True,
    )
    trainer = SweptTrainer(model, arguments, train_dataset=[cases[n] for n in sides["train"]], callbacks=[Scores()])
    trainer.train()
if t.wants("test"):
    score(model, "test")
