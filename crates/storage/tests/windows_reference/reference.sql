-- What windows, watermarks and lateness mean (`vocabulary::stream`), in plain SQL over all arrivals.
-- A partition that is told to be idle holds nothing back until its next event; one that never brought an event holds
-- everything back. -1000000000000000000 stands for "before all instants".

-- view arrived
with so_far as (
  select a.*, s.kind, s.size, s.slide, s.gap, s.lateness, s.out_of_order, s.partitions,
    max(case when part = 0 then time end) over up_to_here as newest_0,
    max(case when part = 1 then time end) over up_to_here as newest_1,
    max(case when part = 2 then time end) over up_to_here as newest_2,
    max(case when part = 0 and is_event then a.sequence end) over up_to_here as event_0,
    max(case when part = 1 and is_event then a.sequence end) over up_to_here as event_1,
    max(case when part = 2 and is_event then a.sequence end) over up_to_here as event_2,
    max(case when part = 0 and not is_event then a.sequence end) over up_to_here as idle_0,
    max(case when part = 1 and not is_event then a.sequence end) over up_to_here as idle_1,
    max(case when part = 2 and not is_event then a.sequence end) over up_to_here as idle_2
  from arrivals a join streams s on a.scenario = s.scenario
  window up_to_here as (partition by a.scenario order by a.sequence rows between unbounded preceding and current row)
), held as (
  select *,
    case when coalesce(event_0, -1) >= coalesce(idle_0, -1)
      then coalesce(newest_0, -1000000000000000000) end as held_0,
    case when partitions > 1 and coalesce(event_1, -1) >= coalesce(idle_1, -1)
      then coalesce(newest_1, -1000000000000000000) end as held_1,
    case when partitions > 2 and coalesce(event_2, -1) >= coalesce(idle_2, -1)
      then coalesce(newest_2, -1000000000000000000) end as held_2
  from so_far
)
select *, least(held_0, held_1, held_2) - out_of_order as reached from held

-- view judged
with marked as (
  select *, coalesce(max(reached) over (
      partition by scenario order by sequence rows between unbounded preceding and 1 preceding
    ), -1000000000000000000) as watermark
  from arrived
)
select *,
  case kind
    when 'tumbling' then time - time % size + size
    when 'hopping' then time - time % slide + slide
    else time + 1
  end <= watermark - lateness as too_late
from marked where is_event

-- view accepted
select * from (
  select *, row_number() over (partition by scenario, id order by sequence) as nth from judged where not too_late
) where id is null or nth = 1

-- view windows
with cut as (
  select a.*, a.time - a.time % a.slide + a.slide + n.k * a.slide as ends
  from accepted a cross join numbers n
  where a.kind in ('tumbling', 'hopping')
), runs as (
  select *, sum(case when gap > time - before then 0 else 1 end) over (
      partition by scenario, key order by time rows between unbounded preceding and current row
    ) as run
  from (
    select *, lag(time) over (partition by scenario, key order by time) as before from accepted where kind = 'session'
  )
), members as (
  select scenario, key, ends - size as start, ends, time, id, x, word from cut where ends - size <= time
  union all
  select scenario, key, min(time) over (partition by scenario, key, run) as start,
    max(time) over (partition by scenario, key, run) + gap as ends, time, id, x, word
  from runs
)
select scenario, key, start, ends,
  count(*) as events, count(x) as "values", sum(x) as sum, avg(x) as mean, var_samp(x) as variance, min(x) as min,
  max(x) as max, count(distinct word) as words,
  first_value(x order by time desc, id desc, x desc) filter (where x is not null) as newest
from members group by scenario, key, start, ends

-- view answers
with known as (
  select q.scenario, q.n, q.at, s.kind, s.size, s.slide, s.tile, s.gap, a.time, a.id, a.x, a.word,
    lag(a.time) over (partition by q.scenario, q.n order by a.time) as before
  from questions q
  join streams s on q.scenario = s.scenario
  join accepted a on a.scenario = q.scenario and a.key = q.key and a.sequence < q.sequence and a.time < q.at
), runs as (
  select *,
    sum(case when gap > time - before then 0 else 1 end) over (
      partition by scenario, n order by time rows between unbounded preceding and current row
    ) as run,
    max(time) over (partition by scenario, n) as last
  from known
), members as (
  select * from (select *, max(run) over (partition by scenario, n) as last_run from runs)
  where case kind
    when 'session' then run = last_run and at - last < gap
    when 'sliding' then time >= at - size - (at - size) % tile
    else time < at - at % slide and time >= at - at % slide - size
  end
)
select q.scenario, q.n,
  count(m.time) as events, count(x) as "values", sum(x) as sum, avg(x) as mean, var_samp(x) as variance, min(x) as min,
  max(x) as max, count(distinct word) as words,
  first_value(x order by time desc, id desc, x desc) filter (where x is not null) as newest
from questions q left join members m on q.scenario = m.scenario and q.n = m.n
group by q.scenario, q.n

-- view counts
select j.scenario, count(a.sequence) as accepted,
  sum(case when a.time < a.watermark then 1 else 0 end) as late,
  count(*) - count(a.sequence) as not_counted
from judged j left join accepted a on j.scenario = a.scenario and j.sequence = a.sequence
group by j.scenario
