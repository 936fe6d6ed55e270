//! The only page a stranger sees.

use super::{html, see_console};
use crate::{
    admin::{
        Ask, CHALLENGE, Judged, Query, Session, Tries, is_token, session_cookie, whole_seconds,
    },
    aside::{Answer, PeerIp},
};
use http::{StatusCode, header};
use maud::{DOCTYPE, Markup, html};
use std::time::Duration;
use tollgate_config::Admin;

/// The form. `why` it is shown again.
pub(crate) fn login_page(why: Option<&str>) -> Answer {
    let mut answer = html(StatusCode::UNAUTHORIZED, form(why));
    answer.headers_mut().insert(header::WWW_AUTHENTICATE, CHALLENGE);
    answer
}

/// The form, to somebody whose tokens are not looked at before `wait` is over.
fn wait_page(wait: Duration) -> Answer {
    let seconds = whole_seconds(wait);
    let why = format!("Too many wrong tokens. Try again in {seconds} s.");
    let mut answer = html(StatusCode::TOO_MANY_REQUESTS, form(Some(&why)));
    answer.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    answer
}

fn form(why: Option<&str>) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { "Tollgate: sign in" }
                link rel="stylesheet" href="/console.css";
            }
            body.login {
                main {
                    h1 { "Tollgate" }
                    form method="post" action="/login" {
                        label for="token" { "Admin token" }
                        input #token type="password" name="token" required autofocus
                            autocomplete="current-password"
                            aria-describedby=[why.map(|_| "why")];
                        @if let Some(why) = why {
                            p #why .bad role="alert" { (why) }
                        }
                        button type="submit" { "Sign in" }
                    }
                }
            }
        }
    }
}

/// `POST /login`: a session for the token.
pub(crate) fn log_in(admin: &Admin, tries: &Tries, from: PeerIp, ask: &Ask) -> Answer {
    let Some(token) = &admin.token else { return see_console() };
    let form = Query::form(&ask.body).ok();
    let claim = form.as_ref().and_then(|form| form.get("token")).unwrap_or_default();
    match tries.judge(from, is_token(admin, claim.trim().as_bytes())) {
        Judged::Right => {}
        Judged::Wrong => {
            tracing::warn!("somebody tried to sign in to the console with a wrong token");
            return login_page(Some("That is not the admin token."));
        }
        Judged::Later(wait) => return wait_page(wait),
    }
    let mut answer = see_console();
    if let Some(cookie) = session_cookie(Some(Session::begin()), token) {
        answer.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    answer
}

/// `POST /logout`.
pub(super) fn log_out(admin: &Admin) -> Answer {
    let mut answer = see_console();
    let cookie = admin.token.as_ref().and_then(|token| session_cookie(None, token));
    if let Some(cookie) = cookie {
        answer.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    answer
}
