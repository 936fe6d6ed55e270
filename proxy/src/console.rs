//! The console: one page, made on the server, that shows what the process does.
//!
//! It is whole without JavaScript; the script only fetches it again. Style and script
//! are our own and compiled in: nothing is loaded from anywhere else. maud escapes
//! whatever it is given, so that no name a caller made up can become markup.

mod login;
mod money;
mod page;
mod view;

pub(crate) use self::login::{log_in, login_page};

use crate::{
    admin::{self, Problem},
    app::Parts,
    aside::{self, Answer},
};
use http::{Method, StatusCode, request};
use tollgate_config::Config;

const STYLE: &str = include_str!("console/console.css");
const SCRIPT: &str = include_str!("console/console.js");

/// The answer to somebody who is known, if this is the console's.
pub(crate) async fn answer(
    parts: &Parts,
    config: &Config,
    head: &request::Parts,
) -> Option<Result<Answer, Problem>> {
    let reads = head.method == Method::GET || head.method == Method::HEAD;
    match head.uri.path() {
        "/" if reads => {
            let view = view::look(parts, config).await;
            Some(Ok(html(StatusCode::OK, page::render(&view))))
        }
        "/console.js" if reads => {
            Some(Ok(aside::with_type(StatusCode::OK, "text/javascript; charset=utf-8", SCRIPT)))
        }
        "/logout" if head.method == Method::POST => Some(Ok(login::log_out(&config.admin))),
        "/" | "/console.js" | "/login" | "/logout" => {
            let allowed = if head.uri.path().starts_with("/log") { "POST" } else { "GET" };
            Some(Err(Problem::method_not_allowed(allowed)))
        }
        _ => None,
    }
}

pub(crate) fn style() -> Answer {
    aside::with_type(StatusCode::OK, "text/css; charset=utf-8", STYLE)
}

fn html(status: StatusCode, page: maud::Markup) -> Answer {
    aside::with_type(status, "text/html; charset=utf-8", page.into_string())
}

/// Where a login or logout leads.
fn see_console() -> Answer {
    admin::see_console()
}
