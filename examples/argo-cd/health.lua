-- Health of a DirectLoadBalancer for Argo CD. See README.md in this folder.
local health = {status = "Progressing", message = "waiting for the controller"}
if obj.metadata.deletionTimestamp ~= nil then
  health.message = "being deleted"
  return health
end
local status = obj.status
-- A status of an earlier generation says nothing about this spec.
if status == nil or status.observedGeneration == nil or status.observedGeneration ~= obj.metadata.generation then
  return health
end
local found = {}
for _, condition in ipairs(status.conditions or {}) do
  found[condition.type] = condition
end
local function say(condition)
  if condition.message ~= nil and condition.message ~= "" then
    return condition.reason .. ": " .. condition.message
  end
  return condition.reason
end
local ready, stalled = found.Ready, found.Stalled
if stalled ~= nil and stalled.status == "True" then
  health.status = "Degraded"
  health.message = say(stalled)
elseif ready ~= nil and ready.status == "True" then
  health.status = "Healthy"
  health.message = say(ready)
elseif ready ~= nil and ready.reason == "PlanOnly" then
  -- mode: Plan changes nothing, and so never becomes Ready.
  health.status = "Suspended"
  health.message = say(ready)
elseif ready ~= nil then
  health.message = say(ready)
end
return health
