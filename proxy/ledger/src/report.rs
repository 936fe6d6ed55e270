//! The report: rows, their total and the cost of the machines, as a table, JSON or CSV.
//!
//! Money is a decimal string in all three, never a float; unknown is `null` in
//! JSON, empty in CSV and `–` in the table, never 0.

use serde::{Serialize, Serializer, ser::SerializeMap};

use crate::{
    compute::{ComputeRow, Resource, compute_cost},
    decimal::decimal,
    error::LedgerError,
    pages::Named,
    period::{Window, Zone},
    query::{Dim, UsageQuery, UsageRow},
    reader::Reader,
    record::TOKEN_KINDS,
    sums::Sums,
};

/// What a report is asked for.
#[derive(Clone, Debug)]
pub struct ReportQuery {
    pub window: Window,
    pub by: Vec<Dim>,
    pub step_ms: Option<i64>,
    /// In which times are shown.
    pub zone: Zone,
    /// Of the price book, such as `USD`.
    pub currency: String,
    /// What is paid by the hour; it costs for the time that an instance ran, until
    /// `now_ms` at most.
    pub resources: Vec<Resource>,
    /// Permits of all upstreams, for the share that is idle; 0 = one of them is unlimited.
    pub concurrency: u64,
    pub now_ms: i64,
}

/// A finished report. Serialises as the contract's JSON.
#[derive(Clone, Debug)]
pub struct Report {
    pub query: ReportQuery,
    pub rows: Vec<UsageRow>,
    pub total: Sums,
    /// Empty without resources.
    pub compute: Vec<ComputeRow>,
}

/// How a report is written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReportFormat {
    Table,
    Json,
    Csv,
}

const COLUMNS: [&str; 6] = ["calls", "hits", "cost", "saved", "unpriced_calls", "estimated_calls"];

impl Report {
    pub fn build(reader: &Reader, query: ReportQuery) -> Result<Self, LedgerError> {
        let Window { from_ms, to_ms } = query.window;
        let usage =
            |by: Vec<Dim>, step_ms| reader.usage(&UsageQuery { from_ms, to_ms, by, step_ms });
        let rows = usage(query.by.clone(), query.step_ms)?;
        let mut total = Sums::default();
        for row in &rows {
            total += &row.sums;
        }
        let mut compute = Vec::new();
        if !query.resources.is_empty() {
            let busy: Vec<(String, u64)> = match query.concurrency {
                0 => reader.shared_busy(from_ms, to_ms)?,
                _ => usage(vec![Dim::Route], None)?
                    .into_iter()
                    .filter(|row| row.sums.busy_us > 0)
                    .map(|row| (row.dims.concat(), row.sums.busy_us))
                    .collect(),
            };
            let run_ms = reader.run_ms(from_ms, to_ms, query.now_ms)?;
            compute = compute_cost(run_ms, &query.resources, &busy, query.concurrency.max(1));
        }
        Ok(Self { query, rows, total, compute })
    }

    pub fn render(&self, format: ReportFormat) -> String {
        match format {
            ReportFormat::Table => self.table(),
            ReportFormat::Json => {
                // Serialising to memory fails for maps with keys that are no text: there are none.
                serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
            }
            ReportFormat::Csv => self.csv(),
        }
    }

    fn csv(&self) -> String {
        let has_steps = self.query.step_ms.is_some();
        let mut header: Vec<String> = Vec::new();
        header.extend(has_steps.then(|| "at".to_owned()));
        header.extend(self.query.by.iter().map(|dim| dim.name().to_owned()));
        let (counts, rest) = COLUMNS.split_at(2);
        header.extend(counts.iter().map(|name| (*name).to_owned()));
        header.extend(TOKEN_KINDS.iter().map(|kind| format!("tokens_{kind}")));
        header.extend(rest.iter().map(|name| (*name).to_owned()));
        let mut text = csv_line(&header);
        for row in &self.rows {
            let sums = &row.sums;
            let mut cells: Vec<String> = Vec::new();
            cells.extend(row.at_ms.map(|at_ms| self.query.zone.format_ms(at_ms)));
            cells.extend(row.dims.iter().cloned());
            cells.extend([sums.calls.to_string(), sums.hits.to_string()]);
            cells.extend(sums.tokens.iter().map(u64::to_string));
            let money = [sums.cost_known(), sums.saved_known()];
            cells.extend(money.map(|pico| pico.map(decimal).unwrap_or_default()));
            cells.extend([sums.unpriced_calls.to_string(), sums.estimated_calls.to_string()]);
            text += &csv_line(&cells);
        }
        text
    }

    fn table(&self) -> String {
        let ReportQuery { window, zone, currency, .. } = &self.query;
        let mut text = format!(
            "from {}  to {}  ({currency})\n\n",
            zone.format_ms(window.from_ms),
            zone.format_ms(window.to_ms)
        );
        let has_steps = self.query.step_ms.is_some();
        let dims: Vec<&str> = self.query.by.iter().map(|dim| dim.name()).collect();
        let labels = usize::from(has_steps) + dims.len();
        let mut header: Vec<String> = Vec::new();
        header.extend(has_steps.then(|| "at".to_owned()));
        header.extend(dims.into_iter().map(str::to_owned));
        let numbers = ["calls", "hits", "tokens in", "tokens out", "cost", "saved"];
        header.extend(numbers.map(str::to_owned));
        header.extend(["unpriced", "estimated"].map(str::to_owned));
        let mut lines = vec![header];
        for row in &self.rows {
            let at = row.at_ms.map(|at_ms| zone.format_ms(at_ms));
            let words = row.dims.iter().map(|word| shortened(&visible(word)));
            lines.push(at.into_iter().chain(words).chain(table_cells(&row.sums)).collect());
        }
        if labels > 0 {
            let mut total = vec![String::new(); labels];
            if let Some(first) = total.first_mut() {
                *first = "total".to_owned();
            }
            total.extend(table_cells(&self.total));
            lines.push(total);
        } else if self.rows.is_empty() {
            lines.push(table_cells(&self.total).to_vec());
        }
        text += &aligned(&lines, labels);
        if !self.compute.is_empty() {
            text += "\n";
            text += &aligned(&self.compute_lines(), 2);
        }
        text
    }

    fn compute_lines(&self) -> Vec<Vec<String>> {
        let mut lines = vec![["resource", "route", "busy s", "cost"].map(str::to_owned).to_vec()];
        for row in &self.compute {
            let route = row.route.as_deref().map_or_else(|| "(idle)".to_owned(), visible);
            let busy_s = (row.busy_us / 1_000_000).to_string();
            lines.push(vec![visible(&row.resource), route, busy_s, decimal(row.cost)]);
        }
        lines
    }
}

/// A row's words and sums, as an object of the contract.
struct Row<'a>(&'a Report, &'a UsageRow);

impl Serialize for Report {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let ReportQuery { window, zone, currency, .. } = &self.query;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("from", &zone.format_ms(window.from_ms))?;
        map.serialize_entry("to", &zone.format_ms(window.to_ms))?;
        map.serialize_entry("currency", currency)?;
        let rows: Vec<_> = self.rows.iter().map(|row| Row(self, row)).collect();
        map.serialize_entry("rows", &rows)?;
        let total = UsageRow { at_ms: None, dims: Vec::new(), sums: self.total.clone() };
        map.serialize_entry("total", &Row(self, &total))?;
        if !self.query.resources.is_empty() {
            map.serialize_entry("compute", &self.compute)?;
        }
        map.end()
    }
}

impl Serialize for Row<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(report, UsageRow { at_ms, dims, sums }) = self;
        let mut map = serializer.serialize_map(None)?;
        if let Some(at_ms) = at_ms {
            map.serialize_entry("at", &report.query.zone.format_ms(*at_ms))?;
        }
        for (dim, word) in report.query.by.iter().zip(dims) {
            map.serialize_entry(dim.name(), &(!word.is_empty()).then_some(word))?;
        }
        map.serialize_entry("calls", &sums.calls)?;
        map.serialize_entry("hits", &sums.hits)?;
        let tokens = Named(TOKEN_KINDS.into_iter().zip(sums.tokens).collect());
        map.serialize_entry("tokens", &tokens)?;
        map.serialize_entry("cost", &sums.cost_known().map(decimal))?;
        map.serialize_entry("saved", &sums.saved_known().map(decimal))?;
        map.serialize_entry("unpriced_calls", &sums.unpriced_calls)?;
        map.serialize_entry("estimated_calls", &sums.estimated_calls)?;
        map.end()
    }
}

impl Serialize for ComputeRow {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("resource", &self.resource)?;
        map.serialize_entry("route", &self.route)?;
        map.serialize_entry("idle", &self.route.is_none())?;
        map.serialize_entry("busy_us", &self.busy_us)?;
        map.serialize_entry("cost", &decimal(self.cost))?;
        map.end()
    }
}

fn table_cells(sums: &Sums) -> [String; 8] {
    let [input, cached, write, write_1h, audio_in, output, reasoning, audio_out] = sums.tokens;
    let money = |pico: Option<i128>| pico.map_or_else(|| "–".to_owned(), decimal);
    [
        sums.calls.to_string(),
        sums.hits.to_string(),
        [input, cached, write, write_1h, audio_in].iter().sum::<u64>().to_string(),
        [output, reasoning, audio_out].iter().sum::<u64>().to_string(),
        money(sums.cost_known()),
        money(sums.saved_known()),
        sums.unpriced_calls.to_string(),
        sums.estimated_calls.to_string(),
    ]
}

/// Words left, numbers right, columns two blanks apart.
fn aligned(lines: &[Vec<String>], labels: usize) -> String {
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = lines.iter().filter_map(|line| line.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for line in lines {
        let cells = line.iter().zip(&widths).enumerate().map(|(column, (cell, width))| {
            if column < labels { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        });
        text += cells.collect::<Vec<_>>().join("  ").trim_end();
        text += "\n";
    }
    text
}

/// A caller's word must not move the cursor of an operator's terminal.
fn visible(word: &str) -> String {
    if word.is_empty() {
        return "–".to_owned();
    }
    let escaped = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
    word.chars().map(escaped).collect()
}

/// A word longer than this is cut in the table; JSON and CSV have it whole.
const TABLE_WORD_CHARS_MAX: usize = 48;

fn shortened(word: &str) -> String {
    match word.char_indices().nth(TABLE_WORD_CHARS_MAX) {
        None => word.to_owned(),
        Some(_) => word.chars().take(TABLE_WORD_CHARS_MAX - 1).chain(['…']).collect(),
    }
}

/// RFC 4180. A word that a spreadsheet would run as a formula gets an apostrophe.
fn csv_line(cells: &[String]) -> String {
    let quoted = |cell: &String| {
        let formula = cell.starts_with(['=', '+', '@', '\t', '\r'])
            || (cell.starts_with('-') && cell.parse::<f64>().is_err());
        let cell = if formula { format!("'{cell}") } else { cell.clone() };
        if cell.contains(['"', ',', '\n', '\r']) {
            format!("\"{}\"", cell.replace('"', "\"\""))
        } else {
            cell
        }
    };
    cells.iter().map(quoted).collect::<Vec<_>>().join(",") + "\n"
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;
    use uuid::Uuid;

    use super::*;
    use crate::{
        codes::{CacheOutcome, CacheTier, Quality},
        ledger::{Ledger, Options},
        record::{Dims, UsageRecord},
    };

    const NOON_MS: i64 = 1_795_262_400_000;

    /// A miss and a hit of one model, a call of another without a price, and one
    /// by a user whose name is an attack.
    fn report(by: &str) -> Report {
        let dir = TempDir::new().unwrap();
        let ledger = Ledger::open(dir.path(), Options::default()).unwrap();
        let record = |n: u128, model: &str, user: &str| {
            let route = ledger.dim("chat");
            let dims =
                Dims { route, model: ledger.dim(model), user: ledger.dim(user), ..Dims::default() };
            UsageRecord::new(Uuid::from_u128(n), NOON_MS, dims)
        };
        let mut miss = record(1, "gpt", "ann");
        miss.outcome = CacheOutcome::Miss;
        miss.quality = Quality::Reported;
        (miss.tokens.input, miss.tokens.output) = (100, 20);
        (miss.cost.input, miss.cost.output) = (15_000_000, 9_400_000);
        miss.times.upstream_us = 900_000_000;
        let mut hit = record(2, "gpt", "ann");
        (hit.outcome, hit.tier) = (CacheOutcome::Hit, CacheTier::Memory);
        hit.saved_pico = 24_400_000;
        let mut unpriced = record(3, "house", "=cmd|'/c calc'!A1");
        unpriced.unpriced = true;
        unpriced.quality = Quality::Estimated;
        unpriced.outcome = CacheOutcome::Miss;
        for record in [miss, hit, unpriced] {
            ledger.close(&record);
        }
        drop(ledger);
        ran(&dir, &[(NOON_MS, NOON_MS + 3_600_000)]);
        let query = hour(by);
        Report::build(&Reader::open(dir.path()).unwrap(), query).unwrap()
    }

    /// Says of a ledger that its process ran then, and at no other time.
    fn ran(dir: &TempDir, runs: &[(i64, i64)]) {
        let path = dir.path().join(crate::store::DATABASE_FILE);
        let database = rusqlite::Connection::open(path).unwrap();
        database.execute("DELETE FROM run", []).unwrap();
        for (start_ms, end_ms) in runs {
            database.execute("INSERT INTO run VALUES (?1, ?2)", [start_ms, end_ms]).unwrap();
        }
    }

    fn hour(by: &str) -> ReportQuery {
        ReportQuery {
            window: Window { from_ms: NOON_MS, to_ms: NOON_MS + 3_600_000 },
            by: Dim::parse_list(by).unwrap(),
            step_ms: None,
            zone: Zone::utc(),
            currency: "USD".into(),
            resources: vec![Resource {
                name: "gpu".into(),
                hourly_pico: 2_000_000_000_000,
                replicas: 1,
            }],
            concurrency: 1,
            now_ms: NOON_MS + 3_600_000,
        }
    }

    const MINUTE_MS: i64 = 60_000;

    /// A month of which half an hour was run in, with two routes' calls of ten minutes.
    #[track_caller]
    fn check_month(concurrency: u64, expected: &[(Option<&str>, u64, &str)]) {
        let dir = TempDir::new().unwrap();
        let ledger = Ledger::open(dir.path(), Options::default()).unwrap();
        for (n, route, minute) in [(1, "chat", 0), (2, "embed", 5)] {
            let dims = Dims { route: ledger.dim(route), ..Dims::default() };
            let started_ms = NOON_MS + minute * MINUTE_MS;
            let mut record = UsageRecord::new(Uuid::from_u128(n), started_ms, dims);
            record.times.upstream_us = 600_000_000;
            // A minute in the queue is no work of the machines.
            record.times.total_us = record.times.upstream_us + 60_000_000;
            ledger.close(&record);
        }
        drop(ledger);
        ran(
            &dir,
            &[
                (NOON_MS, NOON_MS + 20 * MINUTE_MS),
                (NOON_MS + 40 * MINUTE_MS, NOON_MS + 50 * MINUTE_MS),
            ],
        );
        let month = Window { from_ms: NOON_MS - 86_400_000, to_ms: NOON_MS + 30 * 86_400_000 };
        let now_ms = NOON_MS + 86_400_000;
        let query = ReportQuery { window: month, concurrency, now_ms, ..hour("") };
        let report = Report::build(&Reader::open(dir.path()).unwrap(), query).unwrap();
        let found: Vec<_> = report
            .compute
            .iter()
            .map(|row| (row.route.as_deref(), row.busy_us / 1_000_000, decimal(row.cost)))
            .collect();
        let expected: Vec<_> = expected
            .iter()
            .map(|(route, busy_s, cost)| (*route, *busy_s, (*cost).to_owned()))
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn machines_cost_the_time_that_an_instance_ran_and_no_more() {
        // Two dollars an hour, half an hour: one dollar.
        check_month(
            2,
            &[
                (Some("chat"), 600, "0.166666666667"),
                (Some("embed"), 600, "0.166666666667"),
                (None, 2400, "0.666666666666"),
            ],
        );
    }

    #[test]
    fn without_a_limit_calls_of_one_moment_share_its_price_and_the_rest_is_idle() {
        // Five minutes alone and five shared, each.
        check_month(
            0,
            &[(Some("chat"), 450, "0.25"), (Some("embed"), 450, "0.25"), (None, 900, "0.5")],
        );
    }

    #[test]
    fn a_ledger_that_is_being_written_counts_until_now() {
        let dir = TempDir::new().unwrap();
        let ledger = Ledger::open(dir.path(), Options::default()).unwrap();
        ran(&dir, &[(NOON_MS, NOON_MS + 1)]);
        for (reader, run_ms) in
            [(Reader::of(&ledger).unwrap(), 5000), (Reader::open(dir.path()).unwrap(), 5000)]
        {
            assert_eq!(reader.run_ms(NOON_MS, NOON_MS * 2, NOON_MS + 5000).unwrap(), run_ms);
        }
        drop(ledger);
        ran(&dir, &[(NOON_MS, NOON_MS + 1)]);
        let reader = Reader::open(dir.path()).unwrap();
        assert_eq!(reader.run_ms(NOON_MS, NOON_MS * 2, NOON_MS + 5000).unwrap(), 1);
    }

    #[test]
    fn an_orderly_end_is_remembered_though_nothing_was_stored() {
        let dir = TempDir::new().unwrap();
        let before_ms = crate::runs::now_ms();
        let ledger = Ledger::open(dir.path(), Options::default()).unwrap();
        let database = rusqlite::Connection::open(dir.path().join("ledger.sqlite")).unwrap();
        database.execute("UPDATE run SET end_ms = 0", []).unwrap();
        drop(ledger);
        let end_ms = database.query_row("SELECT end_ms FROM run", [], |row| row.get::<_, i64>(0));
        assert!(end_ms.unwrap() >= before_ms);
    }

    #[test]
    fn the_table_adds_up_and_shows_what_is_idle() {
        insta::assert_snapshot!(report("model").render(ReportFormat::Table), @"
        from 2026-11-21T12:00:00Z  to 2026-11-21T13:00:00Z  (USD)

        model  calls  hits  tokens in  tokens out       cost      saved  unpriced  estimated
        gpt        2     1        100          20  0.0000244  0.0000244         0          0
        house      1     0          0           0          –          0         1          1
        total      3     1        100          20  0.0000244  0.0000244         1          1

        resource  route   busy s  cost
        gpu       chat       900   0.5
        gpu       (idle)    2700   1.5
        ");
    }

    #[test]
    fn a_long_word_does_not_widen_the_table() {
        assert_eq!(shortened(&"ä".repeat(48)), "ä".repeat(48));
        assert_eq!(shortened(&"ä".repeat(49)), "ä".repeat(47) + "…");
    }

    #[test]
    fn the_json_is_the_contracts_with_money_as_text_and_null_for_unknown() {
        let json = serde_json::to_string(&report("model")).unwrap();
        insta::assert_snapshot!(json, @r#"{"from":"2026-11-21T12:00:00Z","to":"2026-11-21T13:00:00Z","currency":"USD","rows":[{"model":"gpt","calls":2,"hits":1,"tokens":{"input":100,"cached_input":0,"cache_write":0,"cache_write_1h":0,"audio_input":0,"output":20,"reasoning":0,"audio_output":0},"cost":"0.0000244","saved":"0.0000244","unpriced_calls":0,"estimated_calls":0},{"model":"house","calls":1,"hits":0,"tokens":{"input":0,"cached_input":0,"cache_write":0,"cache_write_1h":0,"audio_input":0,"output":0,"reasoning":0,"audio_output":0},"cost":null,"saved":"0","unpriced_calls":1,"estimated_calls":1}],"total":{"calls":3,"hits":1,"tokens":{"input":100,"cached_input":0,"cache_write":0,"cache_write_1h":0,"audio_input":0,"output":20,"reasoning":0,"audio_output":0},"cost":"0.0000244","saved":"0.0000244","unpriced_calls":1,"estimated_calls":1},"compute":[{"resource":"gpu","route":"chat","idle":false,"busy_us":900000000,"cost":"0.5"},{"resource":"gpu","route":null,"idle":true,"busy_us":2700000000,"cost":"1.5"}]}"#);
    }

    #[test]
    fn the_csv_is_no_formula_and_leaves_unknown_money_empty() {
        insta::assert_snapshot!(report("user").render(ReportFormat::Csv), @"
        user,calls,hits,tokens_input,tokens_cached_input,tokens_cache_write,tokens_cache_write_1h,tokens_audio_input,tokens_output,tokens_reasoning,tokens_audio_output,cost,saved,unpriced_calls,estimated_calls
        ann,2,1,100,0,0,0,0,20,0,0,0.0000244,0.0000244,0,0
        '=cmd|'/c calc'!A1,1,0,0,0,0,0,0,0,0,0,,0,1,1
        ");
    }
}
