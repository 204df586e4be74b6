-- A request is found again by what stands for its content, also where what its buyer showed leads to nobody any more.
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX checkout_requests_by_digest ON notifier.checkout_requests (content_digest);
