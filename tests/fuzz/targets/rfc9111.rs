//! No exchange, however odd its fields, is kept or given against what they say.

fn main() -> std::process::ExitCode {
    tollgate_fuzz::fuzz("rfc9111", tollgate_cache::rfc9111::property::assert_rules_hold)
}
