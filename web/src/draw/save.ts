/** Save a picture as SVG, or as PNG at twice its size. */

import type { Palette } from "./ink";
import { CanvasSurface, type Surface, SvgSurface } from "./surface";

export interface Picture {
  readonly width: number;
  readonly height: number;
  readonly draw: (surface: Surface) => void;
}

const PNG_SCALE = 2;

export function svgOf(picture: Picture, palette: Palette): string {
  const surface = new SvgSurface();
  picture.draw(surface);
  return surface.toString(picture.width, picture.height, palette.paper);
}

export function saveSvg(picture: Picture, palette: Palette, name: string): void {
  download(new Blob([svgOf(picture, palette)], { type: "image/svg+xml" }), `${name}.svg`);
}

export function savePng(picture: Picture, palette: Palette, name: string): void {
  const canvas = document.createElement("canvas");
  canvas.width = Math.ceil(picture.width * PNG_SCALE);
  canvas.height = Math.ceil(picture.height * PNG_SCALE);
  const context = canvas.getContext("2d")!;
  context.scale(PNG_SCALE, PNG_SCALE);
  context.fillStyle = palette.paper;
  context.fillRect(0, 0, picture.width, picture.height);
  picture.draw(new CanvasSurface(context));
  canvas.toBlob((blob) => blob && download(blob, `${name}.png`), "image/png");
}

function download(blob: Blob, name: string): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
