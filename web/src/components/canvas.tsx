/** A picture on the screen, sharp at any pixel density. */

import type { JSX, Ref } from "preact";
import { useLayoutEffect, useRef, useState } from "preact/hooks";
import type { Picture } from "../draw/save";
import { CanvasSurface } from "../draw/surface";

type Props = { picture: Picture; label: string; canvas?: Ref<HTMLCanvasElement> } & Omit<
  JSX.HTMLAttributes<HTMLCanvasElement>,
  "label" | "ref" | "width" | "height"
>;

export function Canvas({ picture, label, canvas, ...rest }: Props) {
  const own = useRef<HTMLCanvasElement>(null);
  const { width, height } = picture;
  const density = usePixelDensity();
  useLayoutEffect(() => {
    const element = own.current!;
    const [across, down] = [Math.round(width * density), Math.round(height * density)];
    if (element.width !== across) element.width = across;
    if (element.height !== down) element.height = down;
    const context = element.getContext("2d")!;
    context.setTransform(density, 0, 0, density, 0, 0);
    context.clearRect(0, 0, width, height);
    picture.draw(new CanvasSurface(context));
  });
  const keep = (element: HTMLCanvasElement | null) => {
    own.current = element;
    if (typeof canvas === "function") canvas(element);
    else if (canvas) canvas.current = element;
  };
  return (
    <canvas ref={keep} style={{ width: `${width}px`, height: `${height}px` }} role="img" aria-label={label} {...rest} />
  );
}

function usePixelDensity(): number {
  const [density, setDensity] = useState(devicePixelRatio);
  useLayoutEffect(() => {
    const query = matchMedia(`(resolution: ${density}dppx)`);
    const change = () => setDensity(devicePixelRatio);
    query.addEventListener("change", change, { once: true });
    return () => query.removeEventListener("change", change);
  }, [density]);
  return density;
}

/** The room inside an element, followed as it changes; 0 before it is known. */
export function useWidth<E extends HTMLElement>(): [Ref<E>, number] {
  const ref = useRef<E>(null);
  const [width, setWidth] = useState(0);
  useLayoutEffect(() => {
    const element = ref.current!;
    const observer = new ResizeObserver(([entry]) => setWidth(Math.floor(entry!.contentRect.width)));
    observer.observe(element);
    return () => observer.disconnect();
  }, []);
  return [ref, width];
}
