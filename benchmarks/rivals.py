"""The rivals' side of the benchmarks: plain PyTorch, and Keras' legacy ImageDataGenerator.

python benchmarks/rivals.py train SIZE BATCH_SIZE FORMAT eager|compile|reduce-overhead [frozen]
python benchmarks/rivals.py matmul SIDE                                            in bfloat16
python benchmarks/rivals.py weights FILE
python benchmarks/rivals.py predict WEIGHTS FOLDER FORMAT WORKERS
python benchmarks/rivals.py legacy FOLDER SIZE
"""

import csv
import sys
import tempfile
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parent.parent)]

import numpy as np  # noqa: E402
from PIL import Image  # noqa: E402
from turns import Turns  # noqa: E402

from classifier.processor import cores  # noqa: E402

STAGES = ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2))  # filters, blocks, stride
CLASSES = 101
MEAN = (123.68, 116.779, 103.939)
WARM = 3


def resnet50():
    """Build ResNet-50 v1 as resnet50.py has it: biases, and the stride in the first 1x1."""
    from torch import nn

    class Block(nn.Module):
        def __init__(self, inputs, filters, stride, convolutional):
            super().__init__()
            self.conv1 = nn.Conv2d(inputs, filters, 1, stride)
            self.bn1 = nn.BatchNorm2d(filters)
            self.conv2 = nn.Conv2d(filters, filters, 3, padding=1)
            self.bn2 = nn.BatchNorm2d(filters)
            self.conv3 = nn.Conv2d(filters, 4 * filters, 1)
            self.bn3 = nn.BatchNorm2d(4 * filters)
            self.shortcut = nn.Identity()
            if convolutional:
                self.shortcut = nn.Sequential(
                    nn.Conv2d(inputs, 4 * filters, 1, stride), nn.BatchNorm2d(4 * filters)
                )
            self.relu = nn.ReLU(inplace=True)

        def forward(self, x):
            y = self.relu(self.bn1(self.conv1(x)))
            y = self.relu(self.bn2(self.conv2(y)))
            return self.relu(self.bn3(self.conv3(y)) + self.shortcut(x))

    layers = [
        nn.Conv2d(3, 64, 7, 2, 3), nn.BatchNorm2d(64), nn.ReLU(inplace=True),
        nn.MaxPool2d(3, 2, 1),
    ]  # fmt: skip
    inputs = 64
    for filters, blocks, stride in STAGES:
        for number in range(blocks):
            layers.append(Block(inputs, filters, 1 if number else stride, number == 0))
            inputs = 4 * filters
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, CLASSES))


def train(size: str, batch_size: str, name: str, mode: str, frozen: str = "") -> None:
    """Train on one batch in memory; where `frozen`, with conv1 and the BatchNorms as they are.

    The mode is PyTorch's own: "eager", "compile", or "reduce-overhead" for compile in that mode.
    """
    import torch
    from torch import nn

    torch.set_num_threads(cores())
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.backends.cudnn.benchmark = True
    model = resnet50().to(device, memory_format=torch.channels_last).train()
    if frozen:
        model[0].requires_grad_(False)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval().requires_grad_(False)
    optimizer = torch.optim.SGD(
        [p for p in model.parameters() if p.requires_grad], lr=0.001, momentum=0.9, nesterov=True,
        weight_decay=0.0 if frozen else 5e-4,
    )  # fmt: skip
    loss_of = nn.CrossEntropyLoss(label_smoothing=0.1)
    batch = int(batch_size)
    images = torch.randn(batch, 3, int(size), int(size), device=device)
    images = images.to(memory_format=torch.channels_last)
    labels = torch.randint(CLASSES, (batch,), device=device)
    network = model
    if mode != "eager":
        network = torch.compile(model, mode="default" if mode == "compile" else mode)

    def step():
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device, torch.bfloat16, enabled=name == "bfloat16"):
            loss = loss_of(network(images), labels)
        loss.backward()
        optimizer.step()
        return loss.detach()

    turns = Turns()
    for _ in range(WARM):
        float(step())
    turns.serve(
        step, float,
        batch=batch, format=name, mode=mode, threads=torch.get_num_threads(),
        device=torch.cuda.get_device_name() if device == "cuda" else device,
    )  # fmt: skip


def matmul(side: str) -> None:
    """Multiply square matrices of bfloat16 random numbers."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    a, b = (torch.randn(int(side), int(side)).to(device, torch.bfloat16) for _ in "ab")
    turns = Turns()
    for _ in range(WARM):
        (a @ b).sum().item()
    # What a turn counts, elsewhere the images of a batch, are a product's FLOPs.
    turns.serve(
        lambda: a @ b, lambda product: product[0, 0].item(),
        batch=2 * int(side) ** 3,
    )  # fmt: skip


def weights(path: str) -> None:
    """Write a file of random weights."""
    import torch

    torch.save(resnet50().state_dict(), path)


def decoded(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB").resize((64, 64), Image.Resampling.BILINEAR))


def predict(path: str, folder: str, name: str, workers: str) -> None:
    """Print the five best classes of each photograph; the batches are of 64."""
    import torch

    torch.set_num_threads(cores())
    dtype = getattr(torch, name)
    model = resnet50()
    model.load_state_dict(torch.load(path, weights_only=True))
    model = model.eval().to(dtype=dtype, memory_format=torch.channels_last)
    files = sorted(Path(folder).rglob("*.jpg"))
    mean = torch.tensor(MEAN)

    class Photographs(torch.utils.data.Dataset):
        def __len__(self):
            return len(files)

        def __getitem__(self, index):
            return torch.from_numpy(decoded(files[index]).copy())

    writer = csv.writer(sys.stdout)
    loader = torch.utils.data.DataLoader(Photographs(), 64, num_workers=int(workers))
    with torch.inference_mode():
        for number, images in enumerate(loader):
            inputs = (images - mean).permute(0, 3, 1, 2).to(dtype)  # channels_last as it is
            best = model(inputs).float().softmax(1).topk(5)
            for i, (values, classes) in enumerate(zip(*map(torch.Tensor.tolist, best))):  # noqa: B905
                for rank, (value, label) in enumerate(zip(values, classes, strict=True), 1):
                    writer.writerow((files[64 * number + i], rank, label, f"{value:.6f}"))


def legacy(folder: str, size: str) -> None:
    """Augment as the original does: copies of whole photographs, as JPEG files, and read back."""
    from keras.src.legacy.preprocessing.image import ImageDataGenerator
    from keras.utils import img_to_array, load_img

    generator = ImageDataGenerator(
        rotation_range=40, width_shift_range=0.2, height_shift_range=0.2, shear_range=0.2,
        zoom_range=0.2, horizontal_flip=True, fill_mode="nearest",
    )  # fmt: skip
    files = sorted(Path(folder).rglob("*.jpg"))

    def copies_of(file, target, count=9):  # 800 a class, of 86 photographs on average
        x = img_to_array(load_img(file))[None]
        made = generator.flow(x, batch_size=1, save_to_dir=target, save_format="jpg")
        for _ in range(count):
            next(made)
        shape = (int(size), int(size))
        return [img_to_array(load_img(copy, target_size=shape)) for copy in Path(target).iterdir()]

    turns, number = Turns(), iter(range(10**9))

    def step():
        with tempfile.TemporaryDirectory(dir=Path(folder).parent) as target:
            return np.stack(copies_of(files[next(number) % len(files)], target))

    step()
    turns.serve(step, batch=9)


if __name__ == "__main__":
    contestants = {
        "train": train, "matmul": matmul, "weights": weights, "predict": predict, "legacy": legacy,
    }  # fmt: skip
    contestants[sys.argv[1]](*sys.argv[2:])
