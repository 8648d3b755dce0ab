"""Turning a scene into an RGB picture. Pure: everything random comes from the scene's own seed."""

from io import BytesIO
from random import Random

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from deployer.pocket_vl.fonts import FontBook, ink_box, line_step
from deployer.pocket_vl.outlines import Point, outline, rotate, wobbled
from deployer.pocket_vl.scene import Finish, Scene, Shape, Text


def paint(scene: Scene, book: FontBook) -> Image.Image:
    """Return the picture of a scene."""
    rng = Random(scene.seed)
    picture = _background(scene, rng)
    draw = ImageDraw.Draw(picture)
    for index, shape in enumerate(scene.shapes):
        _draw_shape(draw, shape, rng)
        for text in scene.texts:
            if text.host == index:
                _draw_text(picture, draw, text, book)
    for text in scene.texts:
        if text.host is None:
            _draw_text(picture, draw, text, book)
    return _finished(picture, scene.finish, scene.seed)


def _background(scene: Scene, rng: Random) -> Image.Image:
    size = (scene.width, scene.height)
    ground = scene.background
    if ground.kind == "plain":
        return Image.new("RGB", size, ground.rgb)
    if ground.kind == "ruled":
        picture = Image.new("RGB", size, ground.rgb)
        draw = ImageDraw.Draw(picture)
        step = max(8, round(min(size) * rng.uniform(0.04, 0.12)))
        for y in range(step // 2, scene.height, step):
            draw.line([(0, y), (scene.width, y)], fill=ground.second)
        if rng.random() < 0.5:
            for x in range(step // 2, scene.width, step):
                draw.line([(x, 0), (x, scene.height)], fill=ground.second)
        return picture
    mask = _mask(ground.kind, scene, rng)
    return Image.composite(Image.new("RGB", size, ground.second), Image.new("RGB", size, ground.rgb), mask)


def _mask(kind: str, scene: Scene, rng: Random) -> Image.Image:
    """Return how much of the second colour lies where."""
    size = (scene.width, scene.height)
    if kind == "gradient":
        ramp = Image.linear_gradient("L")
        return ramp.rotate(rng.choice((0, 90, 180, 270))).resize(size, Image.Resampling.BILINEAR)
    coarse = (scene.width, scene.height) if kind == "speckle" else (rng.randint(3, 9), rng.randint(3, 9))
    noise = Image.frombytes("L", coarse, np.random.default_rng(scene.seed).bytes(coarse[0] * coarse[1]))
    return noise if kind == "speckle" else noise.resize(size, Image.Resampling.BICUBIC)


def _draw_shape(draw: ImageDraw.ImageDraw, shape: Shape, rng: Random) -> None:
    fill = shape.rgb if shape.style != "outline" else None
    edge = {"fill": None, "outline": shape.rgb, "both": shape.edge}[shape.style]
    if shape.wobble == 0 and shape.angle == 0 and shape.kind in ("circle", "oval", "square", "rectangle"):
        if shape.kind in ("circle", "oval"):
            draw.ellipse(shape.box, fill=fill, outline=edge, width=shape.stroke)
        elif shape.variant > 0.85:
            radius = 0.15 * min(shape.box.width, shape.box.height)
            draw.rounded_rectangle(shape.box, radius, fill=fill, outline=edge, width=shape.stroke)
        else:
            draw.rectangle(shape.box, fill=fill, outline=edge, width=shape.stroke)
        return
    points = _corners(shape, rng)
    if fill is not None:
        draw.polygon(points, fill=fill)
    if edge is not None:
        draw.line([*points, points[0], points[1]], fill=edge, width=shape.stroke, joint="curve")


def _corners(shape: Shape, rng: Random) -> list[Point]:
    half_w, half_h = shape.box.width / 2, shape.box.height / 2
    unit = wobbled(outline(shape.kind, shape.variant), shape.wobble, rng)
    turned = rotate([(x * half_w, y * half_h) for x, y in unit], shape.angle)
    return [(shape.box.cx + x, shape.box.cy + y) for x, y in turned]


def _draw_text(picture: Image.Image, draw: ImageDraw.ImageDraw, text: Text, book: FontBook) -> None:
    if text.angle == 0:
        _write(draw, text, book, text.box.x0, text.box.y0)
        return
    margin = text.size
    size = (int(text.box.width) + 2 * margin, int(text.box.height) + 2 * margin)
    stencil = Image.new("L", size, 0)
    _write(ImageDraw.Draw(stencil), text, book, margin, margin, ink=255)
    stencil = stencil.rotate(-text.angle, Image.Resampling.BILINEAR)
    corner = (round(text.box.cx - size[0] / 2), round(text.box.cy - size[1] / 2))
    picture.paste(text.rgb, (*corner, corner[0] + size[0], corner[1] + size[1]), stencil)


def _write(
    draw: ImageDraw.ImageDraw, text: Text, book: FontBook, x: float, y: float, ink: int | None = None
) -> None:
    """Print the lines, centred, so that their ink starts at (x, y)."""
    font = book.font(text.font, text.size)
    x0, y0, x1, _ = ink_box(font, text.string)
    fill = text.rgb if ink is None else ink
    lines = text.string.split("\n")
    if len(lines) == 1:
        draw.text((x - x0, y - y0), text.string, font=font, fill=fill)
        return
    for number, line in enumerate(lines):
        left, _, right, _ = font.getbbox(line)
        indent = ((x1 - x0) - (right - left)) / 2 - left
        draw.text((x + indent, y - y0 + number * line_step(font)), line, font=font, fill=fill)


def _finished(picture: Image.Image, finish: Finish, seed: int) -> Image.Image:
    if finish.blur > 0:
        picture = picture.filter(ImageFilter.GaussianBlur(finish.blur))
    if finish.noise > 0:
        picture = _noisy(picture, finish.noise, seed)
    if finish.jpeg is not None:
        stream = BytesIO()
        picture.save(stream, "JPEG", quality=finish.jpeg)
        picture = Image.open(stream).convert("RGB")
    return picture


def _noisy(picture: Image.Image, deviation: float, seed: int) -> Image.Image:
    """Add noise that is the sum of two uniform bytes, scaled to the deviation."""
    pixels = np.asarray(picture)
    raw = np.frombuffer(np.random.default_rng(seed).bytes(2 * pixels.size), np.uint8).reshape(
        2, *pixels.shape
    )
    # The sum of two uniform bytes has deviation 104.5.
    added = (raw[0].astype(np.int16) + raw[1] - 255) * np.float32(deviation / 104.5)
    return Image.fromarray(np.clip(pixels + added, 0, 255).astype(np.uint8))
