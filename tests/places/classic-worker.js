// A classic worker: it has `import()`, but no `import`.
onmessage = async ({ data }) => {
  const [manysocket, { both }] = await Promise.all([import("/pkg/index.js"), import("/places/exercise.js")]);
  postMessage(await both(manysocket, data));
};
