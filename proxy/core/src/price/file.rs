//! Reads a price list: CSV by the names in its first line, all problems at once.
//!
//! Everything unknown is an error that names it: a column that was read and
//! ignored would be a price somebody believes in.

use std::collections::HashSet;
use std::fmt;

use csv::StringRecord;

use super::{Charge, Price, PriceId, Rates, date};
use crate::money::{MoneyError, PicoUsd, PicoUsdPerToken, TokensPriced};

/// Names and texts in a list are short; what is longer is another file.
const NAME_LEN_MAX: usize = 128;
const ROWS_MAX: usize = 100_000;
const PROBLEMS_MAX: usize = 100;

/// Dollars per million tokens, in pico per token: outside of these somebody has
/// most likely mixed up per-token, per-thousand and per-million.
const RATE_USUAL: std::ops::RangeInclusive<u64> = 100..=1_000_000_000;

/// What is wrong, or looks wrong, with a price file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub file: String,
    /// Counted from 1, as editors do.
    pub line: u64,
    pub column: Option<&'static str>,
    pub what: String,
    /// A price outside the usual range, or a name that looks like a pattern, is taken, but
    /// worth a word.
    pub is_warning: bool,
}

/// `prices.csv:3: input: not a decimal number like 2.50: "1,5"`
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: ", self.file, self.line)?;
        if let Some(column) = self.column {
            write!(f, "{column}: ")?;
        }
        f.write_str(&self.what)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Column {
    Model,
    Provider,
    EffectiveFrom,
    Per,
    Input,
    Output,
    CachedInput,
    CacheWrite,
    CacheWrite1h,
    AudioInput,
    AudioOutput,
}

/// What `per` says.
#[derive(Clone, Copy)]
enum Per {
    Tokens(TokensPriced),
    Request,
}

struct Reader<'a> {
    file: &'a str,
    columns: Vec<Column>,
    line: u64,
    problems: Vec<Problem>,
}

/// All good rows in the order of the file, and all problems in it.
pub(super) fn read(file: &str, text: &str) -> (Vec<Price>, Vec<Problem>) {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut rows = csv::ReaderBuilder::new()
        .comment(Some(b'#'))
        .trim(csv::Trim::All)
        .flexible(true)
        .from_reader(text.as_bytes());
    let mut reader = Reader { file, columns: Vec::new(), line: 1, problems: Vec::new() };

    match rows.headers() {
        Ok(headers) => reader.read_headers(headers),
        Err(error) => reader.report(None, format!("not CSV: {error}")),
    }
    if !reader.problems.is_empty() {
        return (Vec::new(), reader.problems);
    }
    let mut prices = Vec::new();
    let mut seen = HashSet::new();
    for row in rows.records() {
        if prices.len() >= ROWS_MAX || reader.problems.len() >= PROBLEMS_MAX {
            reader.report(
                None,
                format!("stopped reading here: over {ROWS_MAX} rows or {PROBLEMS_MAX} problems"),
            );
            break;
        }
        match row {
            Ok(row) => {
                reader.line = row.position().map_or(0, csv::Position::line);
                if let Some(price) = reader.read_row(&row) {
                    reader.check_unique(&price, &mut seen);
                    prices.push(price);
                }
            }
            Err(error) => reader.report(None, format!("not CSV: {error}")),
        }
    }
    (prices, reader.problems)
}

impl Column {
    const ALL: [Self; 11] = [
        Self::Model,
        Self::Provider,
        Self::EffectiveFrom,
        Self::Per,
        Self::Input,
        Self::Output,
        Self::CachedInput,
        Self::CacheWrite,
        Self::CacheWrite1h,
        Self::AudioInput,
        Self::AudioOutput,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Provider => "provider",
            Self::EffectiveFrom => "effective_from",
            Self::Per => "per",
            Self::Input => "input",
            Self::Output => "output",
            Self::CachedInput => "cached_input",
            Self::CacheWrite => "cache_write",
            Self::CacheWrite1h => "cache_write_1h",
            Self::AudioInput => "audio_input",
            Self::AudioOutput => "audio_output",
        }
    }
}

impl Reader<'_> {
    fn report(&mut self, column: Option<Column>, what: String) {
        self.put(column, what, false);
    }

    fn put(&mut self, column: Option<Column>, what: String, is_warning: bool) {
        let (file, line) = (self.file.to_owned(), self.line);
        let column = column.map(Column::name);
        self.problems.push(Problem { file, line, column, what, is_warning });
    }

    fn read_headers(&mut self, headers: &StringRecord) {
        self.line = headers.position().map_or(1, csv::Position::line);
        for name in headers {
            match Column::ALL.into_iter().find(|column| column.name() == name) {
                Some(column) if self.columns.contains(&column) => {
                    self.report(Some(column), "there are two columns of this name".to_owned());
                }
                Some(column) => self.columns.push(column),
                None => self.report(None, unknown_column(name)),
            }
        }
        for column in [Column::Model, Column::Per, Column::Input] {
            if self.problems.is_empty() && !self.columns.contains(&column) {
                self.report(Some(column), "this column is missing".to_owned());
            }
        }
    }

    fn read_row(&mut self, row: &StringRecord) -> Option<Price> {
        if row.len() != self.columns.len() {
            let (found, named) = (row.len(), self.columns.len());
            self.report(
                None,
                format!("has {found} fields where the first line names {named} columns"),
            );
            return None;
        }
        let model = self.name(row, Column::Model);
        let provider = self.name(row, Column::Provider);
        let from = self.effective_from(row);
        let charge = match self.per(row)? {
            Per::Tokens(tokens) => self.rates(row, tokens).map(Charge::Tokens),
            Per::Request => self.request(row).map(Charge::Request),
        };
        let (model, provider, from, charge) = (model?, provider?, from?, charge?);
        if model.is_empty() {
            self.report(Some(Column::Model), "is empty; name the model as answers do".to_owned());
            return None;
        }
        if model.contains(['*', '?']) {
            let what =
                format!("{model:?} is taken as a name, not as a pattern: write one row a model");
            self.put(Some(Column::Model), what, true);
        }
        let id = PriceId::of(&model, &provider, from, &charge);
        Some(Price { model, provider, effective_from_unix_ms: from, charge, id })
    }

    /// The text of a field; `None` where it is empty or has no column.
    fn field<'row>(&self, row: &'row StringRecord, column: Column) -> Option<&'row str> {
        let at = self.columns.iter().position(|&known| known == column)?;
        row.get(at).filter(|text| !text.is_empty())
    }

    fn name(&mut self, row: &StringRecord, column: Column) -> Option<Box<str>> {
        let text = self.field(row, column).unwrap_or_default();
        if text.len() > NAME_LEN_MAX {
            self.report(Some(column), format!("longer than {NAME_LEN_MAX} bytes"));
            return None;
        }
        Some(text.into())
    }

    fn effective_from(&mut self, row: &StringRecord) -> Option<i64> {
        let Some(text) = self.field(row, Column::EffectiveFrom) else {
            return Some(i64::MIN);
        };
        let from = date::unix_ms(text);
        if from.is_none() {
            let what = format!("not a day like 2025-01-31 (it begins at 00:00 UTC): {text:?}");
            self.report(Some(Column::EffectiveFrom), what);
        }
        from
    }

    fn per(&mut self, row: &StringRecord) -> Option<Per> {
        let what = match self.field(row, Column::Per) {
            Some("1M") => return Some(Per::Tokens(TokensPriced::Million)),
            Some("1K") => return Some(Per::Tokens(TokensPriced::Thousand)),
            Some("1") => return Some(Per::Tokens(TokensPriced::One)),
            Some("request") => return Some(Per::Request),
            Some(later @ ("second" | "image" | "byte")) => format!("{later}: not in this version"),
            Some(other) => format!("must be 1M, 1K, 1 (tokens) or request, got {other:?}"),
            None => "is empty; write 1M, 1K, 1 (tokens) or request".to_owned(),
        };
        self.report(Some(Column::Per), what);
        None
    }

    fn rates(&mut self, row: &StringRecord, tokens: TokensPriced) -> Option<Rates> {
        let mut rate = |column, if_absent| self.rate(row, tokens, column, if_absent);
        let input = rate(Column::Input, None);
        let output = rate(Column::Output, None);
        let cached_input = rate(Column::CachedInput, input);
        let cache_write = rate(Column::CacheWrite, input);
        let cache_write_1h = rate(Column::CacheWrite1h, cache_write);
        let audio_input = rate(Column::AudioInput, input);
        let audio_output = rate(Column::AudioOutput, output);
        Some(Rates {
            input: input?,
            cached_input: cached_input?,
            cache_write: cache_write?,
            cache_write_1h: cache_write_1h?,
            audio_input: audio_input?,
            output: output?,
            audio_output: audio_output?,
        })
    }

    /// `None` is reported, except where it only follows from another `None`.
    fn rate(
        &mut self,
        row: &StringRecord,
        tokens: TokensPriced,
        column: Column,
        if_absent: Option<PicoUsdPerToken>,
    ) -> Option<PicoUsdPerToken> {
        let Some(text) = self.field(row, column) else {
            if matches!(column, Column::Input | Column::Output) {
                self.report(Some(column), "is empty; write 0 where it is free".to_owned());
            }
            return if_absent;
        };
        match PicoUsdPerToken::parse_usd_per(text, tokens) {
            Ok(rate) => {
                if rate != PicoUsdPerToken::ZERO && !RATE_USUAL.contains(&rate.get()) {
                    let usd = rate.usd_per_million();
                    self.put(
                        Some(column),
                        format!("{usd} dollars per million tokens; is `per` right?"),
                        true,
                    );
                }
                Some(rate)
            }
            Err(error) => self.money_problem(column, &error),
        }
    }

    /// A price per call stands in `input`; token prices beside it would be ignored.
    fn request(&mut self, row: &StringRecord) -> Option<PicoUsd> {
        for column in [
            Column::Output,
            Column::CachedInput,
            Column::CacheWrite,
            Column::CacheWrite1h,
            Column::AudioInput,
            Column::AudioOutput,
        ] {
            if self.field(row, column).is_some() {
                self.report(
                    Some(column),
                    "must be empty with per=request (the price stands in input)".to_owned(),
                );
            }
        }
        let Some(text) = self.field(row, Column::Input) else {
            self.report(Some(Column::Input), "is empty; write the price of one request".to_owned());
            return None;
        };
        match PicoUsd::parse_usd(text) {
            Ok(price) if price < PicoUsd::ZERO => {
                self.money_problem(Column::Input, &MoneyError::Negative(text.to_owned()))
            }
            Ok(price) => Some(price),
            Err(error) => self.money_problem(Column::Input, &error),
        }
    }

    fn money_problem<T>(&mut self, column: Column, error: &MoneyError) -> Option<T> {
        self.report(Some(column), error.to_string());
        None
    }

    fn check_unique(&mut self, price: &Price, seen: &mut HashSet<(Box<str>, Box<str>, i64)>) {
        let Price { model, provider, effective_from_unix_ms, .. } = price;
        if !seen.insert((model.clone(), provider.clone(), *effective_from_unix_ms)) {
            let what = format!("a second price for {model:?} from the same day; which one holds?");
            self.report(Some(Column::Model), what);
        }
    }
}

/// Columns that the contract, or the world's price lists, know and we do not yet.
fn unknown_column(name: &str) -> String {
    let later =
        ["batch", "priority", "flex", "long", "reasoning", "image", "second", "region", "currency"];
    let known: Vec<&str> = Column::ALL.into_iter().map(Column::name).collect();
    let shown: String = name.chars().take(40).collect();
    if later.iter().any(|word| name.contains(word)) {
        format!("{shown}: not in this version")
    } else {
        format!("no such column: {shown:?}; known are {}", known.join(", "))
    }
}

impl PriceId {
    /// FNV-1a over everything that makes the price. Names a row; keeps nobody out.
    fn of(model: &str, provider: &str, from: i64, charge: &Charge) -> Self {
        let mut hash = Fnv(0xcbf2_9ce4_8422_2325);
        hash.field(model.as_bytes());
        hash.field(provider.as_bytes());
        hash.field(&from.to_le_bytes());
        match charge {
            Charge::Request(price) => hash.field(&price.get().to_le_bytes()),
            Charge::Tokens(rates) => {
                for rate in [
                    rates.input,
                    rates.cached_input,
                    rates.cache_write,
                    rates.cache_write_1h,
                    rates.audio_input,
                    rates.output,
                    rates.audio_output,
                ] {
                    hash.field(&rate.get().to_le_bytes());
                }
            }
        }
        Self(hash.0)
    }
}

struct Fnv(u64);

impl Fnv {
    /// The length in front keeps ("a", "bc") and ("ab", "c") apart.
    fn field(&mut self, bytes: &[u8]) {
        let len = u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_le_bytes();
        for &byte in len.iter().chain(bytes) {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}
