//! What is true where the file says nothing, and the bounds of what it may say.
//! One constant each, with its reason: an operator who asks "why 75 s?" finds it here.

use std::{num::NonZeroU32, time::Duration};

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const MINUTE: Duration = Duration::from_secs(60);

/// Larger than any configuration a person writes; small enough to read at once.
pub(crate) const FILE_BYTES_MAX: usize = 1024 * 1024;
/// Tokens and URLs are short; a mistaken path to a big file must not be read whole.
pub(crate) const SECRET_BYTES_MAX: u64 = 64 * KIB;

/// Loopback: whoever wants more than this machine to reach us says so.
pub(crate) const LISTEN: &str = "127.0.0.1:8080";
pub(crate) const ADMIN: &str = "127.0.0.1:9900";
pub(crate) const METRICS: &str = "127.0.0.1:9464";
pub(crate) const DATA_DIR: &str = "./tollgate-data";

/// Room for a bearer token, cookies and tracing headers together.
pub(crate) const HEADER_BYTES: u64 = 64 * KIB;
/// hyper refuses a smaller buffer than 8 KiB.
pub(crate) const HEADER_BYTES_MIN: u64 = 8 * KIB;
pub(crate) const HEADER_BYTES_MAX: u64 = MIB;
/// What browsers, SDKs and gateways in front of us send, four times over.
pub(crate) const HEADERS: u32 = 100;
/// A long conversation with some pictures in it.
pub(crate) const BODY_BYTES: u64 = 32 * MIB;
/// Eight of the largest bodies at one time.
pub(crate) const HELD_BYTES: u64 = 256 * MIB;
pub(crate) const CONNECTIONS: u32 = 10_000;
/// A caller that cannot send its headers in this time is broken or hostile.
pub(crate) const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// nginx's: longer than the keep-alive of common clients, so that they close first.
pub(crate) const IDLE_TIMEOUT: Duration = Duration::from_secs(75);

/// Kubernetes needs about this long to take a pod out of all load balancers.
pub(crate) const DRAIN_QUIET: Duration = Duration::from_secs(5);
/// Below the 30 s after which the kubelet kills.
pub(crate) const DRAIN_DEADLINE: Duration = Duration::from_secs(25);

/// A hit from Redis is only worth having when it is quick.
pub(crate) const REDIS_TIMEOUT: Duration = Duration::from_millis(10);
/// A leader that died costs its followers this; three renewals fit in.
pub(crate) const LEASE_TTL: Duration = Duration::from_secs(5);
/// Longer than most answers take, shorter than a caller's patience.
pub(crate) const LEASE_WAIT: Duration = Duration::from_secs(10);
pub(crate) const REDIS_PORT: u16 = 6379;
/// As Redis's.
pub(crate) const MEMCACHED_TIMEOUT: Duration = Duration::from_millis(10);
pub(crate) const MEMCACHED_PORT: u16 = 11211;
/// A page that is not in the database's memory is a read of its disk.
pub(crate) const POSTGRES_TIMEOUT: Duration = Duration::from_millis(20);
/// One may be busy with a large value. Every one is a process of the server.
pub(crate) const POSTGRES_CONNECTIONS: u32 = 2;
/// As the disk's.
pub(crate) const POSTGRES_BYTES: u64 = 1 << 30;

/// A service in the same pod or region answers a SYN at once.
pub(crate) const CONNECT: Duration = Duration::from_secs(2);
/// The SDKs' own patience with a model that thinks.
pub(crate) const FIRST_BYTE: Duration = Duration::from_secs(10 * 60);
pub(crate) const IDLE: Duration = Duration::from_secs(5 * 60);
pub(crate) const TOTAL: Duration = Duration::from_secs(30 * 60);

pub(crate) const RETRY_ATTEMPTS: u32 = 2;
/// Linkerd's: an outage is asked for a fifth more, and not for three times as much.
pub(crate) const RETRY_BUDGET_PPM: u32 = 200_000;
/// nginx and Envoy begin there: fewer is a coincidence.
pub(crate) const BREAKER_FAILURES: NonZeroU32 = NonZeroU32::new(5).unwrap();
/// A server that is restarted is not back sooner, and nobody waits much longer.
pub(crate) const BREAKER_OPEN: Duration = Duration::from_secs(10);
pub(crate) const MODEL_VERSION_HEADER: &str = "x-model-version";
/// What every server of OpenAI's dialect has.
pub(crate) const MODEL_VERSION_PATH: &str = "/v1/models";
/// A rollout takes minutes; this much of it may be kept under the version before.
pub(crate) const MODEL_VERSION_INTERVAL: Duration = Duration::from_secs(30);
pub(crate) const CLASS_HEADER: &str = "x-priority";

/// Long enough to be useful, short enough that a wrong answer is gone by lunch.
pub(crate) const CACHE_TTL: Duration = Duration::from_secs(60 * 60);
/// A person who looks at answers sees no more bad ones than that; a script that does must say so.
pub(crate) const VOTES_PER_MINUTE: u32 = 10;
/// About what one packet carries: a shorter answer arrives no sooner.
pub(crate) const ENCODED_BYTES_MIN: u64 = 1024;
/// Of one stored stream at a pace; a caller's patience, and not a long answer's whole time.
pub(crate) const PACED_MAX: Duration = Duration::from_secs(60);
/// Of the time since the last change; what RFC 9111 §4.2.2 calls a typical setting.
pub(crate) const HEURISTIC_PERCENT: u8 = 10;
/// An answer that nobody gave a time is asked for again once a day.
pub(crate) const HEURISTIC_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// Of a query parameter in a cache rule; longer ones are nobody's.
pub(crate) const PARAMETER_BYTES_MAX: usize = 128;
/// A warm-up of a thousand requests takes three minutes, and no server notices it.
pub(crate) const WARM_INTERVAL: Duration = Duration::from_millis(200);
/// More often than this nothing is begun; a timer has not much finer steps.
pub(crate) const WARM_INTERVAL_MIN: Duration = Duration::from_micros(100);
/// A thousand articles that are changed at once are voided in ten seconds; purges are small.
pub(crate) const EVENT_INTERVAL: Duration = Duration::from_millis(10);
pub(crate) const EVENT_INTERVAL_MIN: Duration = Duration::from_micros(100);
pub(crate) const WARM_CONCURRENCY: u16 = 2;
/// And never more than a quarter of what the container may use.
/// Some days of answers on any disk, and an index of them of a few megabytes.
pub(crate) const DISK_BYTES: u64 = 1024 * MIB;
/// A local disk answers in less; one that is shared or busy is skipped rather than waited for.
pub(crate) const DISK_TIMEOUT: Duration = Duration::from_millis(20);
pub(crate) const MEMORY_BYTES: u64 = 256 * MIB;
/// Below this a memory tier holds nothing useful.
pub(crate) const MEMORY_BYTES_MIN: u64 = MIB;

/// Minutes that it takes to begin a pod: one that is there, and one whose model must be loaded.
pub(crate) const HORIZONS: [u32; 2] = [5, 15];
/// Of the highest rate of a day: more has to be announced.
pub(crate) const RAISE_MAX: f64 = 3.0;

pub(crate) const ALIAS_WINDOW: Duration = MINUTE;
/// A window is kept in memory at one sample bucket a second.
pub(crate) const ALIAS_WINDOW_MAX: Duration = Duration::from_secs(10 * 60);

/// A typing mistake beyond this (`3650d`) is likelier than a wish.
pub(crate) const DURATION_MAX: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// name, strict, weight, queue, max_wait, default
pub(crate) type ClassDefault = (&'static str, bool, u32, u32, Duration, bool);

/// Half the weight each step down; the less urgent, the longer it may queue.
pub(crate) const CLASSES: [ClassDefault; 4] = [
    ("emergency", true, 1, 64, MINUTE, false),
    ("vip", false, 8, 256, Duration::from_secs(30), false),
    ("normal", false, 4, 512, Duration::from_secs(30), true),
    ("batch", false, 1, 1024, Duration::from_secs(10 * 60), false),
];
/// Of a class that is listed without them: those of `normal`.
pub(crate) const CLASS_QUEUE: u32 = 512;
pub(crate) const CLASS_MAX_WAIT: Duration = Duration::from_secs(30);
/// Which part of `max_wait` the `lifo_target` of a class is: by then a queue is not a burst
/// any more, and nine tenths of everybody's patience are left.
pub(crate) const CLASS_LIFO_PART: u32 = 10;

/// The names of the one upstream and the one route of `--upstream`.
pub(crate) const UPSTREAM_NAME: &str = "upstream";
pub(crate) const ROUTE_NAME: &str = "all";

/// Environment variables, read here and nowhere else.
pub(crate) const ENV_NAMESPACE: &str = "TOLLGATE_NAMESPACE";
pub(crate) const ENV_ADMIN_TOKEN: &str = "TOLLGATE_ADMIN_TOKEN";
pub(crate) const ENV_CONFIG: &str = "TOLLGATE_CONFIG";

const _: () = assert!(BODY_BYTES <= HELD_BYTES);
const _: () = assert!(HEADER_BYTES_MIN <= HEADER_BYTES && HEADER_BYTES <= HEADER_BYTES_MAX);

/// Of `cache.explain.entries`: they are compared one by one, some 10 ms for all of them.
pub(crate) const EXPLAIN_ENTRIES_MAX: usize = 20_000;
