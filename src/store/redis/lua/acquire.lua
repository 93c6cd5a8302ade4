-- Takes one request and its tokens from every subject, or nothing from any. Returns whether it did, and what is left of each limit.

local subjects, passes, left = {}, 1, {}
for place, limits in ipairs(limits_of_all()) do
  local subject = open(KEYS[place + 1], limits)
  subjects[place] = subject
  for _, limit in ipairs(limits) do
    local cost = is_tokens(limit) and tokens or 1
    if cost > limit.left + NEARLY then
      passes = 0
    end
  end
end
for _, subject in ipairs(subjects) do
  if passes == 1 then
    subject.in_flight, subject.mine = subject.in_flight + 1, subject.mine + 1
    subject.reserved = subject.reserved + tokens
  end
  for _, limit in ipairs(subject.limits) do
    if passes == 1 then
      limit.left = limit.left - (is_tokens(limit) and tokens or 1)
    end
    table.insert(left, exact(limit.left))
  end
  if passes == 1 or #subject.gone > 0 then
    close(subject)
  end
end
return { passes, left }
