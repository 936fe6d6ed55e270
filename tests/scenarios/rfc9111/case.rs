//! The words in which the table of cases is written.
//!
//! A case is a few requests to one URL, what the upstream would answer to each, and what the caller
//! must get. Time is never waited for: an answer that is to be old comes with an `age`.
//!
//! In values `{now}`, `{now-60}` and `{now+60}` are dates, counted from when the case begins;
//! `{rfc850+60}` and `{asctime+60}` the same in the older forms. `{base}` is the case's own path,
//! `{origin}` the caller's scheme and authority.

pub(super) type Lines = &'static [(&'static str, &'static str)];

/// A promise, named by the section of the RFC that makes it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) steps: [Option<Step>; 4],
}

/// A request, what the upstream answers if it is asked, and what is expected.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    pub(super) method: &'static str,
    /// Appended to the case's own path.
    pub(super) at: &'static str,
    pub(super) lines: Lines,
    pub(super) sent: &'static str,
    pub(super) answer: Answer,
    pub(super) expect: Expect,
    pub(super) checks: &'static [Check],
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) fields: Lines,
    /// Else one of this step's own.
    pub(super) body: Option<&'static str>,
    /// Whole interim answers, sent before.
    pub(super) early: &'static str,
    /// No answer: the connection is closed.
    pub(super) hangs_up: bool,
}

/// What the caller gets, and what the upstream saw. A number is the step whose answer it is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Expect {
    /// The upstream's answer to this very request.
    Asked,
    /// A kept answer, and the upstream heard nothing.
    Cached(usize),
    /// A kept answer, after the upstream was asked whether it holds.
    Validated(usize),
    /// A kept answer, whether or not the upstream was asked.
    Stale(usize),
    /// Sooner or later, the answer to a step that the caller was not given at once.
    Settles(usize),
    /// The proxy's own answer, and the upstream heard nothing.
    Refused(u16),
    /// The proxy's own answer after the upstream failed.
    Failed(u16),
}

/// What else must be so.
#[derive(Clone, Copy, Debug)]
pub(super) enum Check {
    /// The reply has this field, once, with this value.
    Has(&'static str, &'static str),
    Lacks(&'static str),
    /// The reply's `age` is from … to …
    Age(u64, u64),
    /// A field of the reply contains this.
    Says(&'static str, &'static str),
    /// The upstream was sent this field with this value.
    Sent(&'static str, &'static str),
    NotSent(&'static str),
    Status(u16),
    Body(&'static str),
}

/// GET; the upstream answers 200 with nothing to go by, and is expected to be asked.
pub(super) const fn get() -> Step {
    method("GET")
}

pub(super) const fn method(method: &'static str) -> Step {
    let answer = Answer { status: 200, fields: &[], body: None, early: "", hangs_up: false };
    Step { method, at: "", lines: &[], sent: "", answer, expect: Expect::Asked, checks: &[] }
}

impl Step {
    pub(super) const fn at(self, at: &'static str) -> Self {
        Self { at, ..self }
    }

    /// The request's fields.
    pub(super) const fn lines(self, lines: Lines) -> Self {
        Self { lines, ..self }
    }

    /// The request's body.
    pub(super) const fn sends(self, sent: &'static str) -> Self {
        Self { sent, ..self }
    }

    /// The answer's fields.
    pub(super) const fn gives(self, fields: Lines) -> Self {
        Self { answer: Answer { fields, ..self.answer }, ..self }
    }

    /// The answer's status.
    pub(super) const fn status(self, status: u16) -> Self {
        Self { answer: Answer { status, ..self.answer }, ..self }
    }

    /// The answer's body.
    pub(super) const fn body(self, body: &'static str) -> Self {
        Self { answer: Answer { body: Some(body), ..self.answer }, ..self }
    }

    pub(super) const fn early(self, early: &'static str) -> Self {
        Self { answer: Answer { early, ..self.answer }, ..self }
    }

    pub(super) const fn hangs_up(self) -> Self {
        Self { answer: Answer { hangs_up: true, ..self.answer }, ..self }
    }

    pub(super) const fn cached(self, step: usize) -> Self {
        Self { expect: Expect::Cached(step), ..self }
    }

    /// The upstream says that what it is asked about holds.
    pub(super) const fn validated(self, step: usize) -> Self {
        let answer = Answer { status: 304, ..self.answer };
        Self { expect: Expect::Validated(step), answer, ..self }
    }

    pub(super) const fn stale(self, step: usize) -> Self {
        Self { expect: Expect::Stale(step), ..self }
    }

    pub(super) const fn settles(self, step: usize) -> Self {
        Self { expect: Expect::Settles(step), ..self }
    }

    pub(super) const fn refused(self, status: u16) -> Self {
        Self { expect: Expect::Refused(status), ..self }
    }

    pub(super) const fn failed(self, status: u16) -> Self {
        Self { expect: Expect::Failed(status), ..self }
    }

    pub(super) const fn and(self, checks: &'static [Check]) -> Self {
        Self { checks, ..self }
    }
}

pub(super) const fn one(name: &'static str, first: Step) -> Case {
    Case { name, steps: [Some(first), None, None, None] }
}

pub(super) const fn two(name: &'static str, first: Step, second: Step) -> Case {
    Case { name, steps: [Some(first), Some(second), None, None] }
}

pub(super) const fn three(name: &'static str, first: Step, second: Step, third: Step) -> Case {
    Case { name, steps: [Some(first), Some(second), Some(third), None] }
}

pub(super) const fn four(name: &'static str, steps: [Step; 4]) -> Case {
    let [a, b, c, d] = steps;
    Case { name, steps: [Some(a), Some(b), Some(c), Some(d)] }
}

/// An answer with these fields is given again.
pub(super) const fn kept(name: &'static str, fields: Lines) -> Case {
    two(name, get().gives(fields), get().cached(0))
}

/// An answer with these fields is not.
pub(super) const fn not_kept(name: &'static str, fields: Lines) -> Case {
    two(name, get().gives(fields), get())
}

/// An answer with this status and fields is given again.
pub(super) const fn status_kept(name: &'static str, status: u16, fields: Lines) -> Case {
    two(name, get().status(status).gives(fields), get().status(status).cached(0))
}

pub(super) const fn status_not_kept(name: &'static str, status: u16, fields: Lines) -> Case {
    two(name, get().status(status).gives(fields), get().status(status))
}

type Line = (&'static str, &'static str);

pub(super) const HOUR: Line = ("cache-control", "max-age=3600");
pub(super) const DATED: Line = ("date", "{now}");
/// Fresh for an hour.
pub(super) const FRESH: Lines = &[HOUR, DATED];

pub(super) const MINUTE: Line = ("cache-control", "max-age=60");
pub(super) const OLD_AGE: Line = ("age", "70");
