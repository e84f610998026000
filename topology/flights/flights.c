/* The flights of one aircraft. Four commands, and the projectors of three views; the header is
 * generated from application.toml and the schemas beside this file.
 *
 * It reads and writes whole records: one host call moves all fields of a row structure. That is
 * faster than field by field where most fields are needed, and it is what a busy command wants. */
#define PARTITA_ROW_TEXT 64
#include "flights.h"

#define MINUTE_MS 60000
#define HOUR_MS (60 * MINUTE_MS)
#define LEGS_MAX 32
#define LEG_FORGOTTEN_MS (48 * HOUR_MS) /* a planned flight that nobody mentions again */
#define FLIGHT_MAX_MS (18 * HOUR_MS)    /* no flight takes longer: its arrival went unreported */

/* What names a flight within an aircraft's plan. */
typedef struct {
    int64_t day, number;
    const char *origin; /* 3 letters */
} name_t;

static bool is_code(partita_text text, uint32_t letters)
{
    return text.length == letters;
}

static bool is_named(const plan_legs_row *leg, name_t name)
{
    const char *origin = (const char *)leg + leg->origin.offset;
    return leg->flight != 0 && leg->day == name.day && leg->number == name.number
        && memcmp(origin, name.origin, 3) == 0;
}

/* Look a flight up in the aircraft's plan; false where it isn't there. */
static bool find_leg(plan_t plan, name_t name, plan_legs_t *found, plan_legs_row *leg)
{
    if (!plan_exists(plan)) return false;
    uint32_t length = plan_legs_length(plan);
    for (uint32_t at = 0; at < length; at++) {
        *found = plan_legs_item(plan, at);
        if (plan_legs_read(*found, leg) && is_named(leg, name)) return true;
    }
    return false;
}

/* Find a place for a new leg: a free one, a forgotten one, or one more. */
static bool place_leg(plan_t plan, name_t name, int64_t now, plan_legs_t *place)
{
    plan_legs_row leg;
    bool placed = false;
    uint32_t length = plan_legs_length(plan);
    for (uint32_t at = 0; at < length; at++) {
        plan_legs_t item = plan_legs_item(plan, at);
        plan_legs_read(item, &leg);
        if (is_named(&leg, name)) {
            partita_reject("already_scheduled", "this flight is in the plan already");
            return false;
        }
        bool usable = leg.flight == 0 || leg.scheduled_at < now - LEG_FORGOTTEN_MS;
        if (usable && !placed) *place = item, placed = true;
    }
    if (placed) return true;
    if (length >= LEGS_MAX) {
        partita_reject("plan_full", "an aircraft has at most 32 flights ahead of it");
        return false;
    }
    *place = plan_legs_append(plan);
    return true;
}

void schedule(void)
{
    schedule_args_row args;
    if (!schedule_args_read(&args) || !is_code(args.origin, 3) || !is_code(args.dest, 3)
        || !is_code(args.carrier, 2)) {
        partita_reject("invalid_code", "an airport has 3 letters and an airline has 2");
        return;
    }
    const char *text = (const char *)&args;
    name_t name = {args.day, args.number, text + args.origin.offset};
    plan_t plan = plan_get();
    if (!plan_exists(plan)) {
        plan = plan_create();
        aircraft_t aircraft = aircraft_create();
        aircraft_set_carrier(aircraft, text + args.carrier.offset, 2);
        aircraft_set_airport(aircraft, name.origin, 3);
    }
    plan_legs_t place;
    if (!place_leg(plan, name, args.scheduled_at, &place)) return;

    flight_row flight = {
        .day = args.day,
        .number = args.number,
        .miles = args.miles,
        .state = FLIGHT_STATE_SCHEDULED,
        .scheduled_at = args.scheduled_at,
        .nulls = FLIGHT_ROW_DEPARTED_AT_NULL | FLIGHT_ROW_ARRIVED_AT_NULL,
    };
    flight_row_set_origin(&flight, name.origin, 3);
    flight_row_set_dest(&flight, text + args.dest.offset, 3);
    flight_t created = flight_create();
    flight_write(created, &flight);

    plan_legs_row leg = {
        .flight = flight_id(created),
        .day = args.day,
        .number = args.number,
        .scheduled_at = args.scheduled_at,
    };
    plan_legs_row_set_origin(&leg, name.origin, 3);
    plan_legs_write(place, &leg);
}

/* The flight an aircraft is still said to be on must have ended long ago: note that nobody
 * reported it, and take it out of the plan. */
static void end_unreported(plan_t plan, aircraft_row *row)
{
    flight_t lost = flight_get(row->flight);
    flight_set_state(lost, FLIGHT_STATE_UNREPORTED);
    row->unreported++;
    uint32_t length = plan_legs_length(plan);
    for (uint32_t at = 0; at < length; at++) {
        plan_legs_t leg = plan_legs_item(plan, at);
        if (plan_legs_flight(leg) == row->flight) plan_legs_set_flight(leg, 0);
    }
}

void depart(void)
{
    depart_args_row args;
    plan_legs_t place;
    plan_legs_row leg;
    if (!depart_args_read(&args) || !is_code(args.origin, 3)) {
        partita_reject("invalid_code", "an airport has 3 letters");
        return;
    }
    name_t name = {args.day, args.number, (const char *)&args + args.origin.offset};
    plan_t plan = plan_get();
    flight_row flight;
    if (!find_leg(plan, name, &place, &leg)) {
        partita_reject("not_scheduled", "this flight is not in the aircraft's plan");
        return;
    }
    flight_t departing = flight_get(leg.flight);
    flight_read(departing, &flight);
    if (flight.state != FLIGHT_STATE_SCHEDULED) {
        partita_reject("already_departed", "this flight has departed before");
        return;
    }
    aircraft_row row;
    aircraft_t aircraft = aircraft_get();
    aircraft_read(aircraft, &row);
    if (row.state == AIRCRAFT_STATE_AIR) {
        if (args.departed_at - row.since < FLIGHT_MAX_MS) {
            partita_reject("still_in_the_air", "the aircraft has not arrived from its last flight");
            return;
        }
        end_unreported(plan, &row);
    }
    flight.state = FLIGHT_STATE_DEPARTED;
    flight.departed_at = args.departed_at;
    flight.nulls &= ~FLIGHT_ROW_DEPARTED_AT_NULL;
    flight_write(departing, &flight);

    row.state = AIRCRAFT_STATE_AIR;
    row.flight = leg.flight;
    row.since = args.departed_at;
    row.departures++;
    aircraft_row_set_airport(&row, (const char *)&flight + flight.dest.offset, 3);
    aircraft_write(aircraft, &row);
}

void arrive(void)
{
    arrive_args_row args;
    plan_legs_t place;
    plan_legs_row leg;
    if (!arrive_args_read(&args) || !is_code(args.origin, 3)) {
        partita_reject("invalid_code", "an airport has 3 letters");
        return;
    }
    name_t name = {args.day, args.number, (const char *)&args + args.origin.offset};
    aircraft_t aircraft = aircraft_get();
    aircraft_row row;
    if (!aircraft_exists(aircraft) || !aircraft_read(aircraft, &row)
        || !find_leg(plan_get(), name, &place, &leg) || row.flight != leg.flight) {
        partita_reject("not_departed", "the aircraft is not on this flight");
        return;
    }
    if (args.arrived_at < row.since || args.air_minutes < 0) {
        partita_reject("invalid_time", "a flight arrives after it has departed");
        return;
    }
    flight_row flight;
    flight_t arriving = flight_get(leg.flight);
    flight_read(arriving, &flight);
    flight.state = FLIGHT_STATE_ARRIVED;
    flight.arrived_at = args.arrived_at;
    flight.air_minutes = args.air_minutes;
    flight.nulls &= ~FLIGHT_ROW_ARRIVED_AT_NULL;
    flight_write(arriving, &flight);

    row.state = AIRCRAFT_STATE_GROUND;
    row.flight = 0;
    row.since = args.arrived_at;
    row.arrivals++;
    row.miles += flight.miles;
    row.air_minutes += args.air_minutes;
    aircraft_write(aircraft, &row);
    plan_legs_set_flight(place, 0);
}

void cancel(void)
{
    cancel_args_row args;
    plan_legs_t place;
    plan_legs_row leg;
    if (!cancel_args_read(&args) || !is_code(args.origin, 3)) {
        partita_reject("invalid_code", "an airport has 3 letters");
        return;
    }
    name_t name = {args.day, args.number, (const char *)&args + args.origin.offset};
    if (!find_leg(plan_get(), name, &place, &leg)) {
        partita_reject("not_scheduled", "this flight is not in the aircraft's plan");
        return;
    }
    flight_t cancelled = flight_get(leg.flight);
    if (flight_state(cancelled) != FLIGHT_STATE_SCHEDULED) {
        partita_reject("already_departed", "this flight has departed");
        return;
    }
    aircraft_t aircraft = aircraft_get();
    flight_set_state(cancelled, FLIGHT_STATE_CANCELLED);
    aircraft_set_cancellations(aircraft, aircraft_cancellations(aircraft) + 1);
    plan_legs_set_flight(place, 0);
}

/* Runs after each change of the aircraft. */
void status(void)
{
    aircraft_row aircraft;
    if (!aircraft_read(aircraft_event(), &aircraft)) return;
    const char *text = (const char *)&aircraft;
    status_row row = {
        .state = aircraft.state,
        .since = aircraft.since,
        .departures = aircraft.departures,
        .arrivals = aircraft.arrivals,
        .cancellations = aircraft.cancellations,
        .unreported = aircraft.unreported,
        .miles = aircraft.miles,
        .air_minutes = aircraft.air_minutes,
    };
    status_row_set_carrier(&row, text + aircraft.carrier.offset, aircraft.carrier.length);
    status_row_set_airport(&row, text + aircraft.airport.offset, aircraft.airport.length);
    status_write(status_put(status_key()), &row);
}

/* One flight's share in the sums: each of its changes is one step of its life. by_day and by_route
 * have the same row (totals.avsc), and so the same layout. */
static void add(by_day_row *totals, const flight_row *flight)
{
    switch (flight->state) {
    case FLIGHT_STATE_SCHEDULED:
        totals->scheduled++;
        break;
    case FLIGHT_STATE_DEPARTED:
        totals->departed++;
        totals->delay_minutes += (flight->departed_at - flight->scheduled_at) / MINUTE_MS;
        break;
    case FLIGHT_STATE_ARRIVED:
        totals->arrived++;
        totals->miles += flight->miles;
        totals->air_minutes += flight->air_minutes;
        break;
    case FLIGHT_STATE_CANCELLED:
        totals->cancelled++;
        break;
    default:
        totals->unreported++;
    }
}

/* Runs after each change of a flight. */
void totals(void)
{
    flight_row flight;
    if (!flight_read(flight_event(), &flight)) return;
    const char *text = (const char *)&flight;
    const char *origin = text + flight.origin.offset, *dest = text + flight.dest.offset;

    by_day_row row;
    by_day_t day = by_day_put(by_day_key(flight.day));
    by_day_read(day, &row);
    add(&row, &flight);
    by_day_write(day, &row);

    by_route_key_t key = by_route_key(origin, flight.origin.length, dest, flight.dest.length);
    by_route_t route = by_route_put(key);
    by_route_read(route, (by_route_row *)&row);
    add(&row, &flight);
    by_route_write(route, (const by_route_row *)&row);
}
