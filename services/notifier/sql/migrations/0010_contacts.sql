-- Contacts hold more than a name and an address.
--
-- What it locks: contacts, for a moment; nothing is rewritten. The index is built over no rows: no contact has a birthday
-- yet.

-- details: phone, date of birth, language, time zone and demographics, sealed as one. birthday: a keyed digest of month
-- and day, so that who has a birthday is found without a date in the clear; birthday_from: the business time from which
-- that date counts.
ALTER TABLE notifier.contacts
    ADD COLUMN details bytea,
    ADD COLUMN birthday bytea,
    ADD COLUMN birthday_from timestamptz;

-- squawk-ignore require-concurrent-index-creation
CREATE INDEX contacts_birthday ON notifier.contacts (partition, birthday) WHERE birthday IS NOT NULL;
