"""Entries that the database refuses from a process without the right to them; generated from the domain's lists.

A process that is stopped between its last question and its entry cannot answer for itself. So the question is asked
again here, in the transaction that writes the entry, under the locks of both chains.
"""

from __future__ import annotations

from collections.abc import Iterable

from interlock.domain.ledger.chain import AFTER_DEPLOYMENT, AFTER_END, AFTER_FAILURE, END
from interlock.domain.ledger.kinds import ENVIRONMENT_BOOKED as BOOKED
from interlock.domain.ledger.kinds import ENVIRONMENT_ENTERED as ENTERED
from interlock.domain.ledger.kinds import ENVIRONMENT_FREED as FREED
from interlock.domain.ledger.kinds import ENVIRONMENT_RECOVERED as RECOVERED
from interlock.domain.ledger.kinds import PERMIT_ISSUED, PERMIT_USED, RELEASE_CLOSED, RELEASE_OVERTAKEN

LOST, OVERTAKEN = "IL001", "IL002"
"""The states that the database answers with."""

TRIGGER = "rightful"


def _listed(kinds: Iterable[str]) -> str:
    return ", ".join(f"'{kind}'" for kind in kinds)


_PURPOSE = rf"""CASE kind WHEN '{PERMIT_ISSUED}' THEN substring(payload::text FROM '"purpose":"([a-z_]+)"') END"""
_OUTCOME = f"""CASE kind WHEN '{RELEASE_CLOSED}' THEN substring(payload::text FROM '"outcome":"([a-z_]+)"') END"""

FUNCTION = rf"""
CREATE OR REPLACE FUNCTION ledger.refuse_lost() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS $$
DECLARE
    last record;
    given record;
    -- As it is written, not as JSON: what a hook printed may have characters that the database cannot read.
    entered text[] := regexp_match(
        NEW.payload::text, '"entered":\{{"place":"([^"\\]+)","token":([0-9]{{1,18}})\}}'
    );
    place text := entered[1];
    token bigint := entered[2]::bigint;
    holder text;
BEGIN
    -- What has ended gets nothing added but what may follow its end.
    SELECT {_OUTCOME} AS outcome INTO last FROM ledger.entries
        WHERE chain = NEW.chain AND kind IN ({_listed(END)}) ORDER BY sequence DESC LIMIT 1;
    IF FOUND AND NOT (
        NEW.kind IN ({_listed(AFTER_END)})
        OR (last.outcome = 'failed' AND NEW.kind IN ({_listed(AFTER_FAILURE)}))
        OR (last.outcome = 'deployed' AND NEW.kind IN ({_listed(AFTER_DEPLOYMENT)}))
    ) THEN
        RAISE EXCEPTION '% has ended, and % must not follow', NEW.chain, NEW.kind USING ERRCODE = '{LOST}';
    END IF;

    -- A release that was overtaken gets no permit, and one that has a permit to change something is not overtaken.
    IF NEW.kind IN ({_listed((PERMIT_ISSUED, PERMIT_USED))}) AND EXISTS (
        SELECT FROM ledger.entries WHERE chain = NEW.chain AND kind = '{RELEASE_OVERTAKEN}'
    ) THEN
        RAISE EXCEPTION '% was overtaken, and % must not follow', NEW.chain, NEW.kind USING ERRCODE = '{OVERTAKEN}';
    END IF;
    IF NEW.kind = '{RELEASE_OVERTAKEN}' AND EXISTS (
        SELECT FROM ledger.entries WHERE chain = NEW.chain AND kind = '{PERMIT_ISSUED}' AND {_PURPOSE} <> 'inspect'
    ) THEN
        RAISE EXCEPTION '% has a permit and is not overtaken', NEW.chain USING ERRCODE = '{OVERTAKEN}';
    END IF;

    -- A try that entered an environment may write only if no later process entered or booked it.
    IF entered IS NOT NULL THEN
        PERFORM pg_advisory_xact_lock(hashtextextended(place, 0));
        SELECT payload ->> 'purpose' AS purpose, payload ->> 'way_back' AS way_back INTO given FROM ledger.entries
            WHERE chain = place AND sequence = token AND kind = '{ENTERED}' AND payload ->> 'holder' = NEW.chain;
        IF NOT FOUND THEN
            RAISE EXCEPTION '% was not issued the token % of %', NEW.chain, token, place USING ERRCODE = '{LOST}';
        END IF;
        SELECT sequence, payload ->> 'holder' AS holder INTO last FROM ledger.entries
            WHERE chain = place AND sequence > token
            AND (kind = '{ENTERED}' OR (kind = '{BOOKED}' AND payload ->> 'holder' <> NEW.chain))
            AND NOT (given.purpose = 'traffic' AND given.way_back = 'true' AND kind = '{ENTERED}'
                AND payload ->> 'way_back' = 'true' AND payload ->> 'holder' = NEW.chain)
            ORDER BY sequence DESC LIMIT 1;
        IF FOUND THEN
            RAISE EXCEPTION '% has the token % of %, and % came after it', NEW.chain, token, place, last.holder
                USING ERRCODE = '{LOST}';
        END IF;
    END IF;

    -- A process cannot enter if its release has ended or is backed out, its task has a later try, or it has no booking.
    IF NEW.kind = '{ENTERED}' THEN
        holder := NEW.payload ->> 'holder';
        SELECT {_OUTCOME} AS outcome INTO last FROM ledger.entries
            WHERE chain = holder AND kind IN ({_listed(END)}) ORDER BY sequence DESC LIMIT 1;
        IF FOUND AND NOT (
            (NEW.payload ->> 'purpose' = 'return' AND last.outcome = 'deployed')
            OR (NEW.payload ->> 'way_back' = 'true' AND last.outcome = 'failed')
        ) THEN
            RAISE EXCEPTION '% has ended and cannot enter %', holder, NEW.chain USING ERRCODE = '{LOST}';
        END IF;
        SELECT payload ->> 'attempt' AS attempt, payload ->> 'purpose' AS purpose INTO given FROM ledger.entries
            WHERE chain = NEW.chain AND kind = '{ENTERED}' AND payload ->> 'holder' = holder
            AND (
                (payload ->> 'task' = NEW.payload ->> 'task'
                    AND (payload ->> 'attempt')::int > (NEW.payload ->> 'attempt')::int)
                OR (payload ->> 'purpose' = 'back_out' AND NEW.payload ->> 'way_back' <> 'true')
            ) LIMIT 1;
        IF FOUND THEN
            RAISE EXCEPTION '% (%, try %) cannot enter %: try % has entered it since, to %', holder,
                NEW.payload ->> 'task', NEW.payload ->> 'attempt', NEW.chain, given.attempt, given.purpose
                USING ERRCODE = '{LOST}';
        END IF;
        SELECT sequence, payload ->> 'holder' AS holder INTO last FROM ledger.entries
            WHERE chain = NEW.chain AND kind = '{BOOKED}' ORDER BY sequence DESC LIMIT 1;
        IF FOUND AND last.holder <> holder AND NEW.payload ->> 'permit' IS NOT NULL AND NOT EXISTS (
            SELECT FROM ledger.entries WHERE chain = NEW.chain AND sequence > last.sequence
            AND kind IN ({_listed((FREED, RECOVERED))}) AND payload ->> 'holder' = last.holder
        ) THEN
            RAISE EXCEPTION '% is booked by %, so % cannot enter it', NEW.chain, last.holder, holder
                USING ERRCODE = '{LOST}';
        END IF;
    END IF;
    RETURN NEW;
END $$;
"""
