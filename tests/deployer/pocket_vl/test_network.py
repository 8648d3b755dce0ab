"""The network that is trained and the network that serves are the same function."""

import json
from pathlib import Path

import torch
from paged_steps import Run, empty_pages, run_step
from PIL import Image

from deployer.pocket_vl.export import write_checkpoint
from deployer.pocket_vl.network import PocketVl, initialise
from deployer.pocket_vl.sampling import model_pixels
from deployer.pocket_vl.sizes import Sizes
from deployer.pocket_vl.trial import Normalise
from engines.families import read_spec
from engines.pytorch.ops_torch import TorchOps
from engines.vision.parts import ImagePixels
from engines.weights.load import load_network

CPU = torch.device("cpu")
TOKENIZER = Path(__file__).parents[3] / "deployer" / "models" / "pocket_vl" / "tokenizer.json"
SIZES = Sizes(
    vocab=1408,
    image=48,
    patch=6,
    vision_hidden=32,
    vision_layers=2,
    vision_heads=2,
    vision_ffn=48,
    hidden=32,
    layers=2,
    heads=4,
    kv_heads=2,
    ffn=48,
)
ROW_ID = 7


def test_the_product_gives_the_logits_of_the_training_network(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = PocketVl(SIZES)
    initialise(model, SIZES)
    model.to(torch.bfloat16).to(torch.float32)  # the checkpoint holds bf16
    write_checkpoint(model.state_dict(), SIZES, TOKENIZER, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    spec = read_spec(config, origin="config.json")
    network = load_network(tmp_path, spec, ops=TorchOps(), device=CPU, dtype=torch.float32)
    assert spec.vision is not None
    picture = Image.effect_noise((90, 60), 80).convert("RGB")
    plan = spec.vision.pixels.plan(*picture.size)
    arrays = spec.vision.pixels.arrays(picture, plan)
    (rows,) = network.encode_images([ImagePixels(arrays=arrays, plan=plan)], max_tiles=8)
    pixels = model_pixels(image=SIZES.image, max_tiles=SIZES.max_tiles)
    with torch.no_grad():
        tiles = Normalise(pixels, device=CPU, dtype=torch.float32)(torch.from_numpy(arrays[0].copy()))
        wanted_rows = model.encode(tiles)[1].flatten(0, 1)
        torch.testing.assert_close(rows, wanted_rows, atol=1e-4, rtol=1e-4)
        ids = [1, 3, 40, *[ROW_ID] * len(rows), 41, 42, 4]
        ids_BT = torch.tensor([ids])
        x = model.embed(ids_BT, wanted_rows, row_id=ROW_ID)
        hidden = model.language_model(x, torch.arange(len(ids))[None], (0, None))
        wanted = model.language_model.output(hidden)[0]
    pages = -(-len(ids) // 16)
    kv = empty_pages(spec.decoder, num_pages=pages, page_tokens=16)
    run = Run(token_ids=ids, pages=list(range(pages)), features=rows, image_id=ROW_ID)
    (logits,) = run_step(network, kv, [(run, len(ids))])
    torch.testing.assert_close(logits, wanted, atol=1e-3, rtol=1e-3)


def test_the_shipped_sizes_stay_within_12_million_parameters() -> None:
    with torch.device("meta"):
        model = PocketVl(Sizes(vocab=1408))
    assert sum(parameter.numel() for parameter in model.parameters()) <= 12_000_000
