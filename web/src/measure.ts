/** How wide text is, in pixels. */

import { type TextStyle, fontOf } from "./draw/surface";

let context: CanvasRenderingContext2D | null = null;

export function widthOf(text: string, style: Pick<TextStyle, "face" | "size" | "bold">): number {
  context ??= document.createElement("canvas").getContext("2d")!;
  context.font = fontOf(style);
  return context.measureText(text).width;
}
