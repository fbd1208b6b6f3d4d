import { readFileSync, readdirSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { en } from "../src/i18n/en";
import { preferredLanguage } from "../src/i18n/language";
import { pieces, places, plain } from "../src/i18n/template";
import { zh } from "../src/i18n/zh";

const names = Object.keys(en) as (keyof typeof en)[];

describe("the two languages", () => {
  it.each(names)("%s takes the same values and colours in both", (name) => {
    expect(places(zh[name])).toEqual(places(en[name]));
  });

  it("are both written", () => {
    expect(Object.keys(zh).sort()).toEqual([...names].sort());
    const same = names.filter(
      (name) => en[name] === zh[name] && /[a-z]{4}/i.test(en[name].replace(/[{[][^}\]]*[}\]]/g, "")),
    );
    expect(same).toEqual([]);
  });

  it("hold no sentence that nothing says", () => {
    const files = readdirSync("src", { recursive: true, encoding: "utf8" }).filter(
      (file) => /\.tsx?$/.test(file) && !/(en|zh)\.ts$/.test(file),
    );
    const source = files.map((file) => readFileSync(`src/${file}`, "utf8")).join("\n");
    expect(names.filter((name) => !source.includes(`"${name}"`))).toEqual([]);
  });

  it("follow the browser until somebody chooses", () => {
    expect(preferredLanguage(null, ["zh-CN", "en"])).toBe("zh");
    expect(preferredLanguage(null, ["fr", "zh"])).toBe("en");
    expect(preferredLanguage("en", ["zh-TW"])).toBe("en");
    expect(preferredLanguage("nonsense", [])).toBe("en");
  });
});

describe("templates", () => {
  it("colour words and fill in values", () => {
    expect(pieces("Why [q:{query}] → [k:{k}]?", { query: "it", k: "animal" })).toEqual([
      { text: "Why " },
      { text: "it", meaning: "q" },
      { text: " → " },
      { text: "animal", meaning: "k" },
      { text: "?" },
    ]);
  });

  it("count in one or many", () => {
    const say = (count: string | number) => plain("{count|layer|layers} deep", { count });
    expect([say(1), say(12), say("1,000")]).toEqual(["1 layer deep", "12 layers deep", "1,000 layers deep"]);
  });

  it("never read a value as markup", () => {
    expect(plain("[q:{query}] reads", { query: "[k:x] {query}" })).toBe("[k:x] {query} reads");
  });
});
