//! The only page a stranger sees.

use super::{html, see_console};
use crate::{
    admin::{Ask, CHALLENGE, Query, Session, is_token, session_cookie},
    aside::Answer,
};
use http::{StatusCode, header};
use maud::{DOCTYPE, html};
use tollgate_config::Admin;

/// The form. `why` it is shown again.
pub(crate) fn login_page(status: StatusCode, why: Option<&str>) -> Answer {
    let page = html! {
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
    };
    let mut answer = html(status, page);
    if status == StatusCode::UNAUTHORIZED {
        answer.headers_mut().insert(header::WWW_AUTHENTICATE, CHALLENGE);
    }
    answer
}

/// `POST /login`: a session for the token.
pub(crate) fn log_in(admin: &Admin, ask: &Ask) -> Answer {
    let Some(token) = &admin.token else { return see_console() };
    let form = Query::form(&ask.body).ok();
    let claim = form.as_ref().and_then(|form| form.get("token")).unwrap_or_default();
    if !is_token(admin, claim.trim().as_bytes()) {
        tracing::warn!("somebody tried to sign in to the console with a wrong token");
        return login_page(StatusCode::UNAUTHORIZED, Some("That is not the admin token."));
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
