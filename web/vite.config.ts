import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import type { Plugin } from "vite";
import { defineConfig } from "vitest/config";

/**
 * `QKV_DATA=page.json npm run dev` serves the page with an `Embedded` document in it, so that it can be worked on without
 * the Python server; `QKV_SERVER=http://127.0.0.1:8000/token/ npm run dev` hands the questions on to a running one.
 */
function embeddedData(path: string | undefined): Plugin {
  return {
    name: "qkv-embedded-data",
    apply: "serve",
    transformIndexHtml: () =>
      path === undefined
        ? []
        : [
            {
              tag: "script",
              attrs: { type: "application/json", id: "qkv-data" },
              children: readFileSync(path, "utf8"),
              injectTo: "body",
            },
          ],
  };
}

const server = process.env.QKV_SERVER;

export default defineConfig({
  base: "./",
  plugins: [embeddedData(process.env.QKV_DATA)],
  server: {
    host: "127.0.0.1",
    proxy:
      server === undefined
        ? {}
        : {
            "/api": {
              target: new URL(server).origin,
              changeOrigin: true,
              rewrite: (path) => new URL(server).pathname.replace(/\/$/, "") + path,
            },
          },
  },
  build: {
    // One script and one style sheet under names that do not change: `qkv look --html` puts them into a single file.
    outDir: fileURLToPath(new URL("../src/qkv/explorer/page", import.meta.url)),
    emptyOutDir: true,
    target: "es2022",
    cssCodeSplit: false,
    modulePreload: false,
    assetsInlineLimit: 0,
    rollupOptions: {
      output: {
        entryFileNames: "assets/qkv.js",
        assetFileNames: "assets/qkv[extname]",
      },
    },
  },
  test: { include: ["tests/**/*.test.ts", "tests/**/*.test.tsx"], environment: "node" },
});
