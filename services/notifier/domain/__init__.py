"""The notifier's rules, pure: feeds in order, campaigns to coupons and deliveries, codes, contacts, retries."""
