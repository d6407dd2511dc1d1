// Reads manifests of custom resources as a JSON list from stdin. Prints a line for each that its schema takes, and ends
// with exit code 1 and a message at the first that it does not.
import { readFileSync } from "node:fs";
import { ScaledObject, TriggerAuthentication } from "@kubernetes-models/keda/keda.sh/v1alpha1";
import { PodMonitor, PrometheusRule } from "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1";

const known = { PodMonitor, PrometheusRule, ScaledObject, TriggerAuthentication };

for (const manifest of JSON.parse(readFileSync(0, "utf8"))) {
  new known[manifest.kind](manifest).validate();
  console.log(manifest.kind);
}
