/**
 * One small drawing language with two dialects: a canvas for the screen and for PNG, and SVG text for saving.
 *
 * A picture is a function of a `Surface`, so what is saved is what was seen.
 */

export type Face = "sans" | "serif" | "mono";

/** A picture with a pixel a cell. */
export interface Raster {
  readonly width: number;
  readonly height: number;
  readonly pixels: Uint8ClampedArray<ArrayBuffer>;
}

export interface TextStyle {
  readonly fill: string;
  readonly face?: Face;
  readonly size?: number;
  readonly bold?: boolean;
  readonly align?: "left" | "center" | "right";
  /** Degrees, clockwise, about the anchor. */
  readonly rotate?: number;
}

export interface Surface {
  rect(x: number, y: number, width: number, height: number, fill: string, radius?: number): void;
  frame(x: number, y: number, width: number, height: number, stroke: string, thickness: number, radius?: number): void;
  line(x1: number, y1: number, x2: number, y2: number, stroke: string, thickness?: number): void;
  /** Text with its middle at `y`. */
  text(x: number, y: number, text: string, style: TextStyle): void;
  image(raster: Raster, x: number, y: number, width: number, height: number): void;
  /** Draw inside a rectangle only. */
  clip(x: number, y: number, width: number, height: number, draw: () => void): void;
}

export const FACES: Record<Face, string> = {
  sans: 'system-ui, "Noto Sans", "DejaVu Sans", "Noto Sans CJK SC", "PingFang SC", "Microsoft YaHei", sans-serif',
  serif:
    '"Iowan Old Style", Charter, "Noto Serif", Georgia, "DejaVu Serif", "Noto Serif CJK SC", "Songti SC", SimSun, serif',
  mono: 'ui-monospace, "SF Mono", Menlo, Consolas, "Noto Sans Mono", "DejaVu Sans Mono", "Noto Sans Mono CJK SC", monospace',
};

export function fontOf(style: Pick<TextStyle, "face" | "size" | "bold">): string {
  return `${style.bold ? "600 " : ""}${style.size ?? 12}px ${FACES[style.face ?? "mono"]}`;
}

const bitmaps = new WeakMap<Raster, HTMLCanvasElement>();

/** The raster as a canvas of its own size, made once. */
export function bitmapOf(raster: Raster): HTMLCanvasElement {
  let bitmap = bitmaps.get(raster);
  if (bitmap === undefined) {
    bitmap = document.createElement("canvas");
    bitmap.width = raster.width;
    bitmap.height = raster.height;
    bitmap.getContext("2d")!.putImageData(new ImageData(raster.pixels, raster.width, raster.height), 0, 0);
    bitmaps.set(raster, bitmap);
  }
  return bitmap;
}

export class CanvasSurface implements Surface {
  constructor(private readonly context: CanvasRenderingContext2D) {}

  rect(x: number, y: number, width: number, height: number, fill: string, radius = 0): void {
    this.context.fillStyle = fill;
    if (radius === 0) return this.context.fillRect(x, y, width, height);
    this.context.beginPath();
    this.context.roundRect(x, y, width, height, radius);
    this.context.fill();
  }

  frame(x: number, y: number, width: number, height: number, stroke: string, thickness: number, radius = 0): void {
    this.context.strokeStyle = stroke;
    this.context.lineWidth = thickness;
    this.context.beginPath();
    this.context.roundRect(x, y, width, height, radius);
    this.context.stroke();
  }

  line(x1: number, y1: number, x2: number, y2: number, stroke: string, thickness = 1): void {
    this.context.strokeStyle = stroke;
    this.context.lineWidth = thickness;
    this.context.beginPath();
    this.context.moveTo(x1, y1);
    this.context.lineTo(x2, y2);
    this.context.stroke();
  }

  text(x: number, y: number, text: string, style: TextStyle): void {
    const { context } = this;
    context.font = fontOf(style);
    context.fillStyle = style.fill;
    context.textAlign = style.align ?? "left";
    context.textBaseline = "middle";
    if (style.rotate === undefined) return context.fillText(text, x, y);
    context.save();
    context.translate(x, y);
    context.rotate((style.rotate * Math.PI) / 180);
    context.fillText(text, 0, 0);
    context.restore();
  }

  image(raster: Raster, x: number, y: number, width: number, height: number): void {
    // Enlarged cells stay sharp; a picture made smaller must not lose thin lines.
    this.context.imageSmoothingEnabled = width * this.context.getTransform().a < raster.width;
    this.context.imageSmoothingQuality = "high";
    this.context.drawImage(bitmapOf(raster), x, y, width, height);
  }

  clip(x: number, y: number, width: number, height: number, draw: () => void): void {
    this.context.save();
    this.context.beginPath();
    this.context.rect(x, y, width, height);
    this.context.clip();
    draw();
    this.context.restore();
  }
}

const escapeXml = (text: string) => text.replace(/[&<>"]/g, (mark) => `&#${mark.charCodeAt(0)};`);
const number = (value: number) => String(Math.round(value * 100) / 100);

export class SvgSurface implements Surface {
  private readonly parts: string[] = [];
  private clips = 0;

  /** `encode` turns a raster into a data URL. */
  constructor(
    private readonly encode: (raster: Raster) => string = (raster) => bitmapOf(raster).toDataURL("image/png"),
  ) {}

  private box(x: number, y: number, width: number, height: number): string {
    return `x="${number(x)}" y="${number(y)}" width="${number(width)}" height="${number(height)}"`;
  }

  rect(x: number, y: number, width: number, height: number, fill: string, radius = 0): void {
    const round = radius === 0 ? "" : ` rx="${number(radius)}"`;
    this.parts.push(`<rect ${this.box(x, y, width, height)}${round} fill="${fill}"/>`);
  }

  frame(x: number, y: number, width: number, height: number, stroke: string, thickness: number, radius = 0): void {
    this.parts.push(
      `<rect ${this.box(x, y, width, height)} rx="${number(radius)}" fill="none" stroke="${stroke}" stroke-width="${number(thickness)}"/>`,
    );
  }

  line(x1: number, y1: number, x2: number, y2: number, stroke: string, thickness = 1): void {
    this.parts.push(
      `<line x1="${number(x1)}" y1="${number(y1)}" x2="${number(x2)}" y2="${number(y2)}" stroke="${stroke}" stroke-width="${number(thickness)}"/>`,
    );
  }

  text(x: number, y: number, text: string, style: TextStyle): void {
    const anchor = { left: "start", center: "middle", right: "end" }[style.align ?? "left"];
    const turn =
      style.rotate === undefined ? "" : ` transform="rotate(${number(style.rotate)} ${number(x)} ${number(y)})"`;
    const weight = style.bold ? ' font-weight="600"' : "";
    this.parts.push(
      `<text x="${number(x)}" y="${number(y)}" fill="${style.fill}" font-family="${escapeXml(FACES[style.face ?? "mono"])}" font-size="${number(style.size ?? 12)}"${weight} text-anchor="${anchor}" dominant-baseline="central"${turn} xml:space="preserve">${escapeXml(text)}</text>`,
    );
  }

  image(raster: Raster, x: number, y: number, width: number, height: number): void {
    this.parts.push(
      `<image ${this.box(x, y, width, height)} preserveAspectRatio="none" style="image-rendering:pixelated" href="${this.encode(raster)}"/>`,
    );
  }

  clip(x: number, y: number, width: number, height: number, draw: () => void): void {
    const id = `clip${this.clips++}`;
    this.parts.push(
      `<clipPath id="${id}"><rect ${this.box(x, y, width, height)}/></clipPath><g clip-path="url(#${id})">`,
    );
    draw();
    this.parts.push("</g>");
  }

  /** The whole document. */
  toString(width: number, height: number, paper: string): string {
    const size = `width="${number(width)}" height="${number(height)}" viewBox="0 0 ${number(width)} ${number(height)}"`;
    return `<svg xmlns="http://www.w3.org/2000/svg" ${size}><rect width="100%" height="100%" fill="${paper}"/>${this.parts.join("")}</svg>\n`;
  }
}
