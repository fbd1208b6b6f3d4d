/** Two quiet links that save a picture. */

import { type Picture, savePng, saveSvg } from "../draw/save";
import { say } from "../i18n/language";
import { palette } from "../theme";

export function Save({ picture, name }: { picture: Picture | null; name: string }) {
  if (picture === null) return null;
  return (
    <span class="save">
      <button
        type="button"
        class="link"
        aria-label={`${say("save")} SVG`}
        onClick={() => saveSvg(picture, palette.value, name)}
      >
        SVG
      </button>
      {" · "}
      <button
        type="button"
        class="link"
        aria-label={`${say("save")} PNG`}
        onClick={() => savePng(picture, palette.value, name)}
      >
        PNG
      </button>
    </span>
  );
}
