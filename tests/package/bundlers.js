// The bundlers, each as its users run it: with no more configuration than it needs to build for the web.
import { createRequire } from "node:module";
import { join } from "node:path";
import { promisify } from "node:util";
import { nodeResolve } from "@rollup/plugin-node-resolve";
import * as esbuild from "esbuild";
import { Parcel } from "@parcel/core";
import { rollup } from "rollup";
import * as vite from "vite";
import webpack from "webpack";

const { resolve } = createRequire(import.meta.url);

/** Builds `entries`, names of files in the project's folder `app`, into `out`, a folder of the project. */
export const bundlers = {
  async vite({ folder, entries, out }) {
    await vite.build({
      configFile: false,
      root: folder,
      base: "./",
      logLevel: "error",
      build: {
        outDir: out,
        rollupOptions: {
          input: entries.map((name) => join(folder, "app", name)),
          output: { entryFileNames: "[name].js", assetFileNames: "[name][extname]" },
        },
      },
    });
  },

  async webpack({ folder, entries, out, ...more }) {
    const compiler = webpack({
      mode: "production",
      context: folder,
      entry: Object.fromEntries(entries.map((name) => [name, `./app/${name}`])),
      output: { path: join(folder, out), filename: "[name]", chunkFilename: "[name].js" },
      ...more,
    });
    const stats = await promisify(compiler.run.bind(compiler))();
    await promisify(compiler.close.bind(compiler))();
    if (stats.hasErrors() || stats.hasWarnings()) throw new Error(stats.toString({ all: false, errors: true, warnings: true }));
  },

  async rollup({ folder, entries, out }) {
    const bundle = await rollup({
      input: entries.map((name) => join(folder, "app", name)),
      plugins: [nodeResolve()],
      onLog: (level, { message }) => {
        if (level === "warn") throw new Error(message);
      },
    });
    await bundle.write({ dir: join(folder, out), entryFileNames: "[name].js", sourcemap: true });
    await bundle.close();
  },

  async esbuild({ folder, entries, out, ...more }) {
    await esbuild.build({
      absWorkingDir: folder,
      entryPoints: entries.map((name) => `app/${name}`),
      outdir: out,
      bundle: true,
      splitting: true,
      format: "esm",
      loader: { ".wasm": "binary" },
      logLevel: "warning",
      ...more,
    });
  },

  async parcel({ folder, entries, out }) {
    await new Parcel({
      entries: entries.map((name) => join(folder, "app", name)),
      defaultConfig: resolve("@parcel/config-default"),
      projectRoot: folder,
      mode: "production",
      shouldDisableCache: true,
      cacheDir: join(folder, ".parcel-cache"),
      logLevel: "error",
      targets: {
        pages: {
          distDir: join(folder, out),
          publicUrl: "./",
          outputFormat: "esmodule",
          context: "browser",
          engines: { browsers: "last 2 Chrome versions" },
        },
      },
    }).run();
  },
};
