//! RFC 9111 §5.3 and RFC 9110 §5.6.7: `expires`, and what is a date.

use super::case::{Case, kept, not_kept};

const NOW: (&str, &str) = ("date", "{now}");

pub(super) const CASES: &[Case] = &[
    kept("§5.3 a future expires", &[("expires", "{now+2592000}"), NOW]),
    not_kept("§5.3 a past expires", &[("expires", "{now-2592000}"), NOW]),
    not_kept("§5.3 a present expires", &[("expires", "{now}"), NOW]),
    kept("§5.3 a future expires without a date", &[("expires", "{now+3600}")]),
    not_kept("§5.3 a past expires without a date", &[("expires", "{now-3600}")]),
    kept("§5.3 a future expires, the date is none", &[("expires", "{now+3600}"), ("date", "foo")]),
    not_kept("§5.3 a fast clock, past", &[("expires", "{now+300}"), ("date", "{now+400}")]),
    kept("§5.3 a fast clock, fresh", &[("expires", "{now+7200}"), ("date", "{now+3600}")]),
    not_kept(
        "§4.2.1 a slow clock and an age",
        &[("expires", "{now+100}"), ("date", "{now-100}"), ("age", "250")],
    ),
    not_kept(
        "§4.2.1 a fast clock and an age",
        &[("expires", "{now+200}"), ("date", "{now+100}"), ("age", "150")],
    ),
    not_kept(
        "§5.3 two lines, both fresh",
        &[("expires", "{now+60}"), ("expires", "{now+90}"), NOW],
    ),
    not_kept("§5.3 two lines, one past", &[("expires", "{now-60}"), ("expires", "{now+90}"), NOW]),
    not_kept("§5.3 two lines, one none", &[("expires", "{now+60}"), ("expires", "0"), NOW]),
    kept("RFC 9110 §5.6.7 rfc850", &[("expires", "{rfc850+3600}"), NOW]),
    kept("RFC 9110 §5.6.7 asctime", &[("expires", "{asctime+3600}"), NOW]),
    kept("RFC 9110 §5.6.7 a date in rfc850", &[("expires", "{now+3600}"), ("date", "{rfc850}")]),
    kept("RFC 9110 §5.6.7 a date in asctime", &[("expires", "{now+3600}"), ("date", "{asctime}")]),
    kept("§5.3 far away", &[("expires", "Thu, 18 Aug 2050 02:01:18 GMT"), NOW]),
    kept("§5.3 the weekday in capitals", &[("expires", "THU, 18 Aug 2050 02:01:18 GMT"), NOW]),
    kept("§5.3 the month in capitals", &[("expires", "Thu, 18 AUG 2050 02:01:18 GMT"), NOW]),
    kept("§5.3 the zone in odd case", &[("expires", "Thu, 18 Aug 2050 02:01:18 gMT"), NOW]),
    not_kept("§5.3 zero", &[("expires", "0"), NOW]),
    not_kept("§5.3 minus one", &[("expires", "-1"), NOW]),
    not_kept("§5.3 empty", &[("expires", ""), NOW]),
    not_kept("§5.3 UTC", &[("expires", "Thu, 18 Aug 2050 02:01:18 UTC"), NOW]),
    not_kept("§5.3 another zone", &[("expires", "Thu, 18 Aug 2050 02:01:18 AEST"), NOW]),
    not_kept("§5.3 an offset", &[("expires", "Thu, 18 Aug 2050 02:01:18 +0000"), NOW]),
    not_kept("§5.3 no zone", &[("expires", "Thu, 18 Aug 2050 02:01:18"), NOW]),
    not_kept("§5.3 a short year", &[("expires", "Thu, 18 Aug 50 02:01:18 GMT"), NOW]),
    not_kept("§5.3 no comma", &[("expires", "Thu 18 Aug 2050 02:01:18 GMT"), NOW]),
    not_kept("§5.3 many spaces", &[("expires", "Thu, 18  Aug  2050 02:01:18 GMT"), NOW]),
    not_kept("§5.3 dashes", &[("expires", "Thu, 18-Aug-2050 02:01:18 GMT"), NOW]),
    not_kept("§5.3 points in the time", &[("expires", "Thu, 18 Aug 2050 02.01.18 GMT"), NOW]),
    not_kept("§5.3 a short hour", &[("expires", "Thu, 18 Aug 2050 2:01:18 GMT"), NOW]),
    not_kept("§5.3 a short day", &[("expires", "Mon, 1 Aug 2050 02:01:18 GMT"), NOW]),
    not_kept("§5.3 a day that is none", &[("expires", "Thu, 31 Feb 2050 02:01:18 GMT"), NOW]),
    not_kept("§5.3 an hour that is none", &[("expires", "Thu, 18 Aug 2050 25:01:18 GMT"), NOW]),
    not_kept("§5.3 another standard", &[("expires", "2050-08-18T02:01:18Z"), NOW]),
    not_kept("§5.3 something behind", &[("expires", "Thu, 18 Aug 2050 02:01:18 GMT x"), NOW]),
];
