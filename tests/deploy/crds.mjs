// Checks objects that Kubernetes itself does not know against the schemas of those who define them.
//
// usage: node crds.mjs OBJECTS.json          (a list of objects; node_modules beside this file)
//
// Twice: the schema's validation, which knows values and lets unknown members pass; and the types of the same
// package, which TypeScript holds an object literal to, so that a mistyped member is an error. Prints
// one line for each problem.

import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import ts from "typescript";

const PLACES = {
  "keda.sh/v1alpha1": "@kubernetes-models/keda/keda.sh/v1alpha1",
  "autoscaling.k8s.io/v1": "@kubernetes-models/autoscaler/autoscaling.k8s.io/v1",
  "monitoring.coreos.com/v1": "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1",
};

const objects = JSON.parse(readFileSync(process.argv[2], "utf8"));
const problems = [];

for (const [at, object] of objects.entries()) {
  const place = PLACES[object.apiVersion];
  if (!place) {
    problems.push(`${at}: no schema of ${object.apiVersion} ${object.kind}`);
    continue;
  }
  const { [object.kind]: Model } = await import(`${place}/${object.kind}`);
  try {
    new Model(object).validate();
  } catch (error) {
    problems.push(`${at}: ${object.kind} ${object.metadata.name}: ${error.message}`);
  }
}

const known = objects.map((object, at) => [at, object]).filter(([, object]) => PLACES[object.apiVersion]);
const source = known
  .map(
    ([at, { apiVersion, kind, ...rest }]) =>
      `import type { I${kind} as T${at} } from "${PLACES[apiVersion]}/${kind}";\n` +
      `export const o${at}: T${at} = ${JSON.stringify({ apiVersion, kind, ...rest })};\n`,
  )
  .join("");
const name = join(dirname(fileURLToPath(import.meta.url)), "objects.ts");
const options = {
  noEmit: true,
  strict: true,
  skipLibCheck: true,
  types: [],
  target: ts.ScriptTarget.ES2022,
  module: ts.ModuleKind.ESNext,
  moduleResolution: ts.ModuleResolutionKind.Bundler,
};
const host = ts.createCompilerHost(options);
const { getSourceFile, fileExists } = host;
host.getSourceFile = (file, ...more) =>
  file === name ? ts.createSourceFile(file, source, options.target) : getSourceFile.call(host, file, ...more);
host.fileExists = (file) => file === name || fileExists.call(host, file);
const program = ts.createProgram([name], options, host);
for (const diagnostic of ts.getPreEmitDiagnostics(program)) {
  const line = diagnostic.file?.getLineAndCharacterOfPosition(diagnostic.start).line ?? 0;
  const at = known[Math.floor(line / 2)]?.[0];
  problems.push(`${at}: ${ts.flattenDiagnosticMessageText(diagnostic.messageText, " ")}`);
}

for (const problem of problems) console.log(problem);
process.exitCode = problems.length ? 1 : 0;
