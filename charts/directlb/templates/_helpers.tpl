{{- define "directlb.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "directlb.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains (include "directlb.name" .) .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "directlb.name" .) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "directlb.selector" -}}
app.kubernetes.io/name: {{ include "directlb.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "directlb.labels" -}}
{{ include "directlb.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "directlb.image" -}}
{{- $image := index . 0 -}}
{{- $tag := index . 1 -}}
{{- if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else -}}
{{ $image.repository }}:{{ default $tag $image.tag }}
{{- end -}}
{{- end -}}

{{- define "directlb.controllerImage" -}}
{{ include "directlb.image" (list .Values.controller.image .Chart.AppVersion) }}
{{- end -}}

{{/* The security settings of everything that is not a proxy. */}}
{{- define "directlb.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "directlb.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{- define "directlb.bootstrap" -}}
{{- $host := default (printf "%s-xds.%s.svc" (include "directlb.fullname" .) .Release.Namespace) .Values.xds.clusterIP -}}
{{- $literal := or (regexMatch "^[0-9.]+$" $host) (contains ":" $host) -}}
{{- tpl (.Files.Get "files/envoy-bootstrap.yaml") (dict "Template" $.Template "xdsHost" $host "xdsPort" 18000 "xdsType" (ternary "STATIC" "STRICT_DNS" $literal) "readyPort" .Values.proxy.readyPort "adminPort" .Values.proxy.adminPort) -}}
{{- end -}}
