-- One row per flight of 2013 from New York (336,776): everything that was known two hours before scheduled
-- departure, and whether the flight then arrived more than 15 minutes late.
--
-- Tables: flights, weather, planes, airports (make_data.py). Times are counted in whole minutes since 1970 (UTC), so
-- that a window "the last two hours" is a plain RANGE of 119 minutes before the current one and the current one.
-- No feature uses anything that happened after event_time; a cancelled flight is not told from a delayed one.

WITH clock AS (
    SELECT
        f.*,
        CAST(date_part('epoch', f.time_hour) AS BIGINT) / 60 + f.sched_dep_time % 100 AS sched,
        CAST(f.sched_dep_time / 100 * 60 + f.sched_dep_time % 100 AS BIGINT) AS dep_minute,
        CAST(f.sched_arr_time / 100 * 60 + f.sched_arr_time % 100 AS BIGINT) AS arr_minute,
        -- New York's offset from UTC in hours, -5 in winter and -4 in summer.
        (f.sched_dep_time / 100 - CAST(date_part('hour', f.time_hour) AS BIGINT) + 36) % 24 - 12 AS home_offset,
        a.lat AS dest_lat,
        a.lon AS dest_lon,
        a.alt AS dest_alt,
        -- Not in airports: San Juan, Aguadilla, Ponce, St Thomas, all UTC-4 the whole year.
        coalesce(a.tz, -4) AS dest_tz,
        coalesce(a.dst, 'N') AS dest_dst
    FROM flights f
    LEFT JOIN airports a ON a.faa = f.dest
),

plan AS (
    SELECT
        *,
        sched - 120 AS asked,
        (arr_minute - dep_minute
            - 60 * (dest_tz + CASE WHEN dest_dst = 'A' AND home_offset = -4 THEN 1 ELSE 0 END - home_offset)
            + 2880) % 1440 AS duration
    FROM clock
),

flown AS (
    SELECT
        *,
        concat_ws('-', carrier, CAST(flight AS VARCHAR), origin, dest,
            concat(CAST(year AS VARCHAR), lpad(CAST(month AS VARCHAR), 2, '0'), lpad(CAST(day AS VARCHAR), 2, '0'),
                lpad(CAST(sched_dep_time AS VARCHAR), 4, '0'))) AS flight_key,
        sched + dep_delay AS departed,
        CASE WHEN arr_delay IS NOT NULL THEN greatest(sched + duration + arr_delay, sched + dep_delay) END AS landed
    FROM plan
),

-- What became known when: questions (all null), flights due out, departures, landings. A flight due out and not gone
-- is waiting: delayed or cancelled, nobody knows yet which.
happenings AS (
    SELECT asked AS at, origin, carrier, dest,
        CAST(NULL AS BIGINT) AS waiting, CAST(NULL AS BIGINT) AS dep_delay, CAST(NULL AS BIGINT) AS arr_delay
    FROM flown
    UNION ALL
    SELECT sched, origin, carrier, dest, 1, NULL, NULL FROM flown
    UNION ALL
    SELECT departed, origin, carrier, dest, -1, dep_delay, NULL FROM flown WHERE departed IS NOT NULL
    UNION ALL
    SELECT landed, origin, carrier, dest, NULL, NULL, arr_delay FROM flown WHERE landed IS NOT NULL
),

-- Each window runs over minutes, not over flights: sums per minute first.
origin_recent AS (
    SELECT
        origin, at,
        sum(gone) OVER w AS origin_departures,
        CAST(sum(delay) OVER w AS DOUBLE) / sum(gone) OVER w AS origin_delay,
        CAST(sum(delayed) OVER w AS DOUBLE) / sum(gone) OVER w AS origin_delayed_share,
        sum(waiting) OVER w AS origin_backlog
    FROM (
        SELECT origin, at, nullif(count(dep_delay), 0) AS gone, sum(dep_delay) AS delay,
            sum(CASE WHEN dep_delay > 15 THEN 1 ELSE 0 END) AS delayed, coalesce(sum(waiting), 0) AS waiting
        FROM happenings WHERE arr_delay IS NULL GROUP BY origin, at
    )
    WINDOW w AS (PARTITION BY origin ORDER BY at RANGE BETWEEN 119 PRECEDING AND CURRENT ROW)
),

carrier_recent AS (
    SELECT
        origin, carrier, at,
        CAST(sum(delay) OVER w AS DOUBLE) / sum(gone) OVER w AS carrier_delay,
        sum(waiting) OVER w AS carrier_backlog
    FROM (
        SELECT origin, carrier, at, nullif(count(dep_delay), 0) AS gone, sum(dep_delay) AS delay,
            coalesce(sum(waiting), 0) AS waiting
        FROM happenings WHERE arr_delay IS NULL GROUP BY origin, carrier, at
    )
    WINDOW w AS (PARTITION BY origin, carrier ORDER BY at RANGE BETWEEN 179 PRECEDING AND CURRENT ROW)
),

dest_recent AS (
    SELECT
        dest, at,
        CAST(sum(delay) OVER w AS DOUBLE) / sum(landed) OVER w AS dest_arrivals_delay
    FROM (
        SELECT dest, at, nullif(count(arr_delay), 0) AS landed, sum(arr_delay) AS delay
        FROM happenings WHERE waiting IS NULL GROUP BY dest, at
    )
    WINDOW w AS (PARTITION BY dest ORDER BY at RANGE BETWEEN 179 PRECEDING AND CURRENT ROW)
),

all_recent AS (
    SELECT
        at,
        CAST(sum(delay) OVER w AS DOUBLE) / sum(landed) OVER w AS arrivals_delay
    FROM (
        SELECT at, nullif(count(arr_delay), 0) AS landed, sum(arr_delay) AS delay
        FROM happenings WHERE waiting IS NULL GROUP BY at
    )
    WINDOW w AS (ORDER BY at RANGE BETWEEN 179 PRECEDING AND CURRENT ROW)
),

-- The aircraft's flight before this one by schedule, as far as it is known: gone or landed within twelve hours.
tail_recent AS (
    SELECT
        flight_key,
        CASE WHEN departed BETWEEN asked - 719 AND asked THEN CAST(dep_delay AS BIGINT) END AS tail_departure_delay,
        CASE WHEN landed BETWEEN asked - 719 AND asked THEN CAST(arr_delay AS BIGINT) END AS tail_arrival_delay
    FROM (
        SELECT
            flight_key,
            asked,
            lag(departed) OVER w AS departed,
            lag(dep_delay) OVER w AS dep_delay,
            lag(landed) OVER w AS landed,
            lag(arr_delay) OVER w AS arr_delay
        FROM flown
        WHERE tailnum IS NOT NULL
        WINDOW w AS (PARTITION BY tailnum ORDER BY sched, flight_key)
    )
),

-- The published schedule: departures planned from the same airport in the half hours before and after.
busy AS (
    SELECT origin, sched, sum(flights) OVER (
        PARTITION BY origin ORDER BY sched RANGE BETWEEN 30 PRECEDING AND 30 FOLLOWING) AS origin_scheduled
    FROM (SELECT origin, sched, count(*) AS flights FROM flown GROUP BY origin, sched)
),

-- A reading belongs to an hour and is made within it, so it counts as known when that hour is over.
sky AS (
    SELECT
        *,
        CAST(date_part('epoch', time_hour) AS BIGINT) / 60 + 60 AS known
    FROM weather
)

SELECT
    f.flight_key,
    arrow_cast(to_timestamp_micros(f.asked * 60000000), 'Timestamp(Microsecond, Some("UTC"))') AS event_time,
    arrow_cast(to_timestamp_micros(f.sched * 60000000), 'Timestamp(Microsecond, Some("UTC"))') AS sched_dep,
    arrow_cast(to_timestamp_micros(f.landed * 60000000), 'Timestamp(Microsecond, Some("UTC"))') AS landed_at,
    CAST(CASE WHEN f.arr_delay > 15 THEN 1 WHEN f.arr_delay IS NOT NULL THEN 0 END AS BIGINT) AS late,
    f.carrier,
    f.origin,
    f.dest,
    f.tailnum,
    CAST(f.distance AS BIGINT) AS distance,
    f.dep_minute,
    f.duration AS scheduled_minutes,
    CAST(p.year AS BIGINT) AS plane_year,
    CAST(p.seats AS BIGINT) AS plane_seats,
    p.engine AS plane_engine,
    p.manufacturer AS plane_manufacturer,
    f.dest_lat,
    f.dest_lon,
    CAST(f.dest_alt AS BIGINT) AS dest_alt,
    s.temp,
    s.dewp,
    s.humid,
    s.wind_dir,
    s.wind_speed,
    s.wind_gust,
    s.precip,
    s.pressure,
    s.visib,
    b.origin_scheduled,
    o.origin_departures,
    o.origin_delay,
    o.origin_delayed_share,
    o.origin_backlog,
    c.carrier_delay,
    c.carrier_backlog,
    d.dest_arrivals_delay,
    l.arrivals_delay,
    t.tail_departure_delay,
    t.tail_arrival_delay
FROM flown f
JOIN origin_recent o ON o.origin = f.origin AND o.at = f.asked
JOIN carrier_recent c ON c.origin = f.origin AND c.carrier = f.carrier AND c.at = f.asked
JOIN dest_recent d ON d.dest = f.dest AND d.at = f.asked
JOIN all_recent l ON l.at = f.asked
JOIN busy b ON b.origin = f.origin AND b.sched = f.sched
LEFT JOIN tail_recent t ON t.flight_key = f.flight_key
LEFT JOIN planes p ON p.tailnum = f.tailnum
LEFT JOIN sky s ON s.origin = f.origin AND s.known = f.asked - f.asked % 60
ORDER BY event_time, flight_key
