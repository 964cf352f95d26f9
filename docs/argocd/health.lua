-- Argo CD's health of a Cluster or a Topic of fulmar.dev: what their conditions say, no more. See README.md beside it.
local health = {}

local function condition(kind)
  if obj.status ~= nil and obj.status.conditions ~= nil then
    for _, found in ipairs(obj.status.conditions) do
      if found.type == kind then
        return found
      end
    end
  end
  return {}
end

local function is(status, message)
  health.status = status
  health.message = message or ""
  return health
end

local ready, stalled, reconciling = condition("Ready"), condition("Stalled"), condition("Reconciling")
if obj.metadata.deletionTimestamp ~= nil then
  return is("Progressing", "being deleted: " .. (ready.message or ""))
end
if obj.spec ~= nil and obj.spec.paused == true then
  return is("Suspended", "spec.paused: the operator keeps its hands off")
end
if obj.status == nil or obj.status.observedGeneration ~= obj.metadata.generation or ready.status == nil then
  return is("Progressing", "the operator has not seen this generation yet")
end
if stalled.status == "True" then
  return is("Degraded", stalled.message)
end
if reconciling.status == "True" then
  return is("Progressing", reconciling.message)
end
if ready.status == "True" then
  return is("Healthy", ready.message)
end
return is("Degraded", ready.message)
