-- Ends a lease. Of the tokens that it had reserved all comes back that was not used; more than that becomes a debt. Where the lease is
-- not known any more, because its node was thought to be gone, the tokens have come back already, and what was used is taken.

for place, limits in ipairs(limits_of_all()) do
  local subject = open(KEYS[place + 1], limits)
  local back = -used
  if subject.mine > 0 then
    subject.mine, subject.in_flight = subject.mine - 1, subject.in_flight - 1
    back = tokens - used
    subject.reserved = math.max(subject.reserved - tokens, 0)
  end
  for _, limit in ipairs(limits) do
    if is_tokens(limit) then
      limit.left = math.min(limit.left + back, limit.amount)
    end
  end
  close(subject)
end
