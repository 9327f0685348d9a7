"""Random changes of a batch of images and their masks, with kornia; the same step always draws the same ones.

Flips and quarter turns are exact. Rotation, scale, shear, shift and elastic deformation are one displacement of the
pixels, sampled once: bilinear for the image, nearest for the mask. What comes from outside of the tile is mirrored, in
image and mask alike: a micrograph goes on beyond its edge much as it does before it.
"""

from __future__ import annotations

import math

import torch
from torch.nn import functional

from .._optional import require
from .recipe import AugmentationRecipe, ElasticRecipe

_EXTRA = "train"


class Augmentation:
    """Random changes by a recipe.

    Parameters
    ----------
    recipe : AugmentationRecipe
        Switches and strengths.
    seed : int
        Together with the number of the step it decides what is drawn.
    window : (float, float)
        Intensities that brightness, contrast and gamma take for black and white: (0, 1) for integer images brought to
        0…1, the range of the data for others.

    Raises
    ------
    MissingExtraError
        If a change needs kornia and it is not installed.
    """

    def __init__(self, recipe: AugmentationRecipe, *, seed: int = 0, window: tuple[float, float] = (0.0, 1.0)) -> None:
        self.recipe, self.seed, self.window = recipe, seed, window
        self.moves = bool(recipe.rotation or recipe.scale or recipe.shear or recipe.shift or recipe.elastic.amplitude)
        self.tones = bool(recipe.brightness or recipe.contrast or recipe.gamma or recipe.noise or recipe.blur)
        if self.moves or self.tones:
            self.kornia = require("kornia", _EXTRA, "augmentation")

    def __call__(self, images: torch.Tensor, masks: torch.Tensor, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the changed batch; the given one may be changed in place.

        Parameters
        ----------
        images : Tensor [N, C, H, W], float32
            Intensities, not yet normalised.
        masks : Tensor [N, H, W], uint8
            Labels.
        step : int
            Number of the step in the run.

        Returns
        -------
        (Tensor, Tensor)
            Of the same shapes and dtypes.
        """
        # Drawn on the CPU, so that a GPU sees the same run.
        draw = torch.Generator().manual_seed((self.seed * 1_000_003 + step) % 2**63)
        images, masks = self._turn(images, masks, draw)
        if self.moves:
            images, masks = self._move(images, masks, draw)
        return (self._tone(images, draw) if self.tones else images), masks

    def _turn(
        self, images: torch.Tensor, masks: torch.Tensor, draw: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        count = images.shape[0]
        flips = torch.rand(count, 2, generator=draw) < 0.5
        turns = torch.randint(4, (count,), generator=draw)
        if not (self.recipe.flips or self.recipe.quarter_turns):
            return images, masks
        new_images, new_masks = torch.empty_like(images), torch.empty_like(masks)
        for i in range(count):
            axes = [axis for axis in (-2, -1) if self.recipe.flips and flips[i, axis]]
            turn = int(turns[i]) if self.recipe.quarter_turns else 0
            new_images[i] = torch.rot90(images[i].flip(axes), turn, (-2, -1))
            new_masks[i] = torch.rot90(masks[i].flip(axes), turn, (-2, -1))
        return new_images, new_masks

    def _move(
        self, images: torch.Tensor, masks: torch.Tensor, draw: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        count, (height, width) = images.shape[0], images.shape[-2:]
        theta = self._affine(count, height, width, draw)
        grid = functional.affine_grid(theta, [count, 1, height, width], align_corners=False)
        if self.recipe.elastic.amplitude:
            shift = self._elastic(self.recipe.elastic, (count, height, width), draw)
            grid = grid + shift * self._chosen(count, draw)[:, None, None, None]
        grid = grid.to(images.device)
        moved = functional.grid_sample(images, grid, "bilinear", padding_mode="reflection", align_corners=False)
        labels = functional.grid_sample(
            masks[:, None].float(), grid, "nearest", padding_mode="reflection", align_corners=False
        )
        return moved, labels[:, 0].to(masks.dtype)

    def _affine(self, count: int, height: int, width: int, draw: torch.Generator) -> torch.Tensor:
        """Return [N, 2, 3]: where in the input, −1…1, each output pixel comes from."""
        recipe = self.recipe
        angle = self._within(recipe.rotation, count, draw) * (math.pi / 180)
        shear = torch.tan(self._within(recipe.shear, count, draw) * (math.pi / 180))
        magnification = self._factor(recipe.scale, count, draw)
        shift = 2 * torch.stack([self._within(recipe.shift, count, draw) for _ in range(2)], dim=1)
        cos, sin = torch.cos(angle) / magnification, torch.sin(angle) / magnification
        # In pixels: rotation · shear / magnification. In the −1…1 coordinates of a tile that is not square, lengths
        # along x and y differ by the ratio of its edges.
        ratio = height / width
        rows = (
            torch.stack([cos, (cos * shear - sin) * ratio, shift[:, 0]], dim=1),
            torch.stack([sin / ratio, sin * shear + cos, shift[:, 1]], dim=1),
        )
        return torch.stack(rows, dim=1)

    def _elastic(self, recipe: ElasticRecipe, shape: tuple[int, int, int], draw: torch.Generator) -> torch.Tensor:
        """Return displacements [N, H, W, 2] (x, y) in −1…1 coordinates: smoothed noise of the recipe's amplitude."""
        count, height, width = shape
        coarse = max(1, int(recipe.smoothness // 3))  # smooth fields lose nothing on a coarser grid
        sigma = recipe.smoothness / coarse
        reach = math.ceil(3 * sigma)
        size = (-(-height // coarse) + 2 * reach, -(-width // coarse) + 2 * reach)
        noise = torch.randn(count, 2, *size, generator=draw)
        line = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma) ** 2)[None]
        line = line / line.square().sum().sqrt()  # white noise of variance 1 keeps it
        smooth = self.kornia.filters.filter2d_separable(noise, line, line, border_type="constant", padding="valid")
        field = functional.interpolate(smooth, size=(height, width), mode="bilinear", align_corners=False)
        scale = torch.tensor([2 * recipe.amplitude / width, 2 * recipe.amplitude / height])
        return field.movedim(1, -1) * scale

    def _tone(self, images: torch.Tensor, draw: torch.Generator) -> torch.Tensor:
        recipe, count = self.recipe, images.shape[0]
        low, high = self.window
        span = high - low if high > low else 1.0
        x = (images - low) / span if (low, span) != (0.0, 1.0) else images
        enhance, shape = self.kornia.enhance, (count, 1, 1, 1)
        brightness = self._within(recipe.brightness, count, draw).to(x.device)
        contrast = self._factor(recipe.contrast, count, draw).to(x.device)
        gamma = self._factor(recipe.gamma, count, draw).to(x.device)
        if recipe.gamma:
            x = enhance.adjust_gamma(x.clamp(0, 1), gamma)
        if recipe.contrast:
            mean = x.mean(dim=(1, 2, 3), keepdim=True)
            x = mean + (x - mean) * contrast.view(shape)
        if recipe.brightness:
            x = enhance.adjust_brightness(x, brightness, clip_output=False)
        if recipe.blur:
            x = self._blur(x, draw)
        if recipe.noise:
            strength = torch.rand(shape, generator=draw) * recipe.noise * self._chosen(count, draw).view(shape)
            seed = int(torch.randint(2**62, (), generator=draw))
            source = torch.Generator(x.device).manual_seed(seed)
            x = x + torch.randn(x.shape, generator=source, device=x.device, dtype=x.dtype) * strength.to(x.device)
        x = x.clamp(0, 1)
        return x * span + low if (low, span) != (0.0, 1.0) else x

    def _blur(self, x: torch.Tensor, draw: torch.Generator) -> torch.Tensor:
        chosen = self._chosen(x.shape[0], draw).bool()
        sigma = torch.rand(x.shape[0], generator=draw) * self.recipe.blur
        kernel = 2 * math.ceil(3 * self.recipe.blur) + 1
        kernel = min(kernel, 2 * (min(x.shape[-2:]) - 1) + 1)
        chosen &= sigma > 0.05  # less leaves every pixel as it is, and 0 has no kernel
        if not bool(chosen.any()):
            return x
        x = x.clone()
        where = chosen.nonzero()[:, 0].to(x.device)
        sigmas = sigma[chosen].to(x.device)[:, None].expand(-1, 2).contiguous()
        x[where] = self.kornia.filters.gaussian_blur2d(x[where], (kernel, kernel), sigmas, border_type="reflect")
        return x

    def _chosen(self, count: int, draw: torch.Generator) -> torch.Tensor:
        """Return 1 for the images that a change happens to, 0 for the others [N]."""
        return (torch.rand(count, generator=draw) < self.recipe.probability).float()

    def _within(self, limit: float, count: int, draw: torch.Generator) -> torch.Tensor:
        """Return numbers between −limit and limit, or 0 where nothing happens [N]."""
        value = (2 * torch.rand(count, generator=draw) - 1) * limit
        return value * self._chosen(count, draw)

    def _factor(self, strength: float, count: int, draw: torch.Generator) -> torch.Tensor:
        """Return factors between 1/(1 + strength) and 1 + strength, as often up as down, or 1 [N]."""
        return torch.exp(self._within(math.log1p(strength), count, draw))
