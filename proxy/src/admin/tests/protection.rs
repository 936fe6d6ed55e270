//! Who gets in, and what a browser may be made to do.

use super::*;

#[tokio::test]
async fn on_loopback_only_loopback_names_are_answered() {
    let house = house().await;
    for host in
        ["localhost", "localhost:9900", "127.0.0.1:9900", "127.8.0.1", "[::1]:9900", "a.LOCALHOST"]
    {
        let told = house.ask("GET", "/api/queue", &[("host", host)], "").await;
        assert_eq!(told.status, StatusCode::OK, "{host}: {told:?}");
    }
    for host in [
        "rebound.example",
        "rebound.example:9900",
        "192.0.2.1",
        "localhost.example",
        "127.0.0.1.example",
    ] {
        for path in ["/", "/api/queue", "/metrics", "/wait-for-drain", "/login"] {
            let told = house.ask("GET", path, &[("host", host)], "").await;
            assert!(told.problem(403).contains("loopback"), "{host}");
        }
    }
    for host in ["a@localhost", "localhost@rebound.example", "not a host"] {
        house.ask("GET", "/api/queue", &[("host", host)], "").await.problem(400);
    }
    let two = [("host", "localhost"), ("host", "rebound.example")];
    house.ask("GET", "/api/queue", &two, "").await.problem(400);
    let elsewhere = house.ask("GET", "http://rebound.example/api/queue", &[], "").await;
    elsewhere.problem(400);
}

#[tokio::test]
async fn no_host_at_all_is_no_loopback_name() {
    let house = open_house("127.0.0.1:0", "", None).await;
    house.get("/api/queue").await.problem(403);
}

#[tokio::test]
async fn what_another_sites_page_sends_is_refused() {
    let house = house().await;
    let json = ("content-type", "application/json");
    for field in [
        ("origin", "https://evil.example"),
        ("origin", "http://localhost:8080"),
        ("origin", "null"),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
    ] {
        let told = house.ask("POST", "/api/cache/purge", &[json, field], r#"{"all":true}"#).await;
        told.problem(403);
        house.ask("GET", "/wait-for-drain", &[field], "").await.problem(403);
    }
    assert!(!house.app.parts.shutdown.is_draining());
    for field in [("origin", "http://localhost:9900"), ("sec-fetch-site", "same-origin")] {
        let told = house.ask("POST", "/api/cache/purge", &[json, field], r#"{"all":true}"#).await;
        assert_eq!(told.status, StatusCode::OK, "{field:?}");
    }
}

#[tokio::test]
async fn a_link_to_the_console_may_be_followed() {
    let house = house().await;
    let link = [("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")];
    assert_eq!(house.ask("GET", "/", &link, "").await.status, StatusCode::OK);
    house.ask("GET", "/wait-for-drain", &link, "").await.problem(403);
}

#[tokio::test]
async fn a_post_that_a_form_could_send_is_refused() {
    let house = house().await;
    for content_type in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"] {
        for (method, path, _) in ENDPOINTS.iter().filter(|(method, ..)| *method != "GET") {
            let fields = [("content-type", content_type)];
            house.ask(method, path, &fields, r#"{"all":true}"#).await.problem(415);
        }
    }
    house.ask("POST", "/api/drain", &[], "").await.problem(415);
    assert!(!house.app.parts.shutdown.is_draining());
}

#[tokio::test]
async fn with_a_token_a_stranger_gets_probes_and_the_login_page() {
    let house = open_house("127.0.0.1:0", "localhost:9900", Some(TOKEN)).await;
    let others =
        [("GET", "/console.js"), ("POST", "/logout"), ("GET", "/api/nothing"), ("GET", "/x")];
    let endpoints = ENDPOINTS.iter().map(|(method, path, _)| (*method, *path));
    for (n, (method, path)) in endpoints.chain(others).enumerate() {
        // Wrong tokens of one address have a limit.
        let from = format!("192.0.2.{n}");
        for claim in
            ["", "Bearer ", "Bearer wrong", "Bearer correct-horse-batterz", "Basic Og==", TOKEN]
        {
            let fields = [("content-type", "application/json"), ("authorization", claim)];
            let told = house.ask_from(&from, method, path, &fields, "{}").await;
            told.problem(401);
            assert!(told.headers["www-authenticate"].to_str().unwrap().starts_with("Bearer"));
        }
    }
    let login = house.get("/").await;
    assert_eq!(login.status, StatusCode::UNAUTHORIZED);
    assert!(login.text.contains("action=\"/login\"") && !login.text.contains("Spent"), "{login:?}");
    for path in ["/livez", "/readyz", "/metrics", "/console.css"] {
        assert_eq!(house.get(path).await.status, StatusCode::OK, "{path}");
    }
}

#[tokio::test]
async fn the_token_opens_the_api_and_is_shown_nowhere() {
    let house = open_house("127.0.0.1:0", "localhost:9900", Some(TOKEN)).await;
    for scheme in ["Bearer", "bearer"] {
        let claim = format!("{scheme} {TOKEN}");
        let told = house.ask("GET", "/api/config", &[("authorization", &claim)], "").await;
        assert_eq!(told.status, StatusCode::OK);
        assert!(!told.text.contains(TOKEN), "{told:?}");
    }
}

async fn log_in(house: &House, token: &str) -> Told {
    let form = [("content-type", "application/x-www-form-urlencoded")];
    house.ask("POST", "/login", &form, format!("token={token}")).await
}

#[tokio::test]
async fn a_login_gives_a_cookie_that_is_not_the_token_and_no_script_can_read() {
    let house = open_house("127.0.0.1:0", "localhost:9900", Some(TOKEN)).await;
    let told = log_in(&house, TOKEN).await;
    assert_eq!(told.status, StatusCode::SEE_OTHER);
    assert_eq!(told.headers["location"], "/");
    let cookie = told.headers["set-cookie"].to_str().unwrap().to_owned();
    assert!(cookie.contains("; HttpOnly") && cookie.contains("; SameSite=Strict"), "{cookie}");
    assert!(!cookie.contains(TOKEN), "{cookie}");
    let pair = cookie.split(';').next().unwrap();

    let page = house.ask("GET", "/", &[("cookie", &format!("other=1; {pair}"))], "").await;
    assert!(page.text.contains("Spent and saved today"), "{page:?}");
    let post = [("content-type", "application/json"), ("cookie", pair)];
    let told = house.ask("POST", "/api/cache/purge", &post, r#"{"all":true}"#).await;
    assert_eq!(told.status, StatusCode::OK);

    let told = house.ask("POST", "/logout", &[("cookie", pair)], "").await;
    assert!(told.headers["set-cookie"].to_str().unwrap().contains("Max-Age=0"));
}

#[tokio::test]
async fn a_session_that_is_over_or_forged_or_of_another_token_opens_nothing() {
    let house = open_house("127.0.0.1:0", "localhost:9900", Some(TOKEN)).await;
    let other = open_house("127.0.0.1:0", "localhost:9900", Some("another")).await;
    let admin = &house.app.parts.snapshot.load().config.admin;
    let token = admin.token.as_ref().unwrap();
    let cookie =
        |session| session_cookie(Some(session), token).unwrap().to_str().unwrap().to_owned();
    let now_s = crate::meter::unix_ms() / 1000;
    let good = cookie(Session { expires_s: now_s + 100 });
    let over = cookie(Session { expires_s: now_s - 1 });
    let longer = good.replacen(&(now_s + 100).to_string(), &(now_s + 200).to_string(), 1);
    assert_ne!(longer, good);
    for forged in [
        over.as_str(),
        &longer,
        "tollgate_session=",
        "tollgate_session=1.0",
        "tollgate_session=x.y",
    ] {
        house.ask("GET", "/api/queue", &[("cookie", forged)], "").await.problem(401);
    }
    let good = [("cookie", good.as_str())];
    assert_eq!(house.ask("GET", "/api/queue", &good, "").await.status, StatusCode::OK);
    other.ask("GET", "/api/queue", &good, "").await.problem(401);
}

#[tokio::test]
async fn a_wrong_token_gets_no_cookie() {
    let house = open_house("127.0.0.1:0", "localhost:9900", Some(TOKEN)).await;
    for wrong in ["", "wrong", "%zz", "correct-horse-battery&token=x"] {
        let told = log_in(&house, wrong).await;
        assert_eq!(told.status, StatusCode::UNAUTHORIZED, "{wrong}");
        assert!(told.headers.get("set-cookie").is_none());
        assert!(told.text.contains("role=\"alert\""));
    }
}

/// Goal: guessing is slow by either door, and hinders nobody else.
#[tokio::test]
async fn ten_wrong_tokens_close_both_doors_to_their_address() {
    let house = open_house("127.0.0.1:0", "localhost:9900", Some(TOKEN)).await;
    let cookie = log_in(&house, TOKEN).await.headers["set-cookie"].to_str().unwrap().to_owned();
    let session = [("cookie", cookie.split(';').next().unwrap())];
    let right = format!("Bearer {TOKEN}");
    let right = [("authorization", right.as_str())];
    time::pause();
    for _ in 0..5 {
        assert_eq!(log_in(&house, "wrong").await.status, StatusCode::UNAUTHORIZED);
        let wrong = [("authorization", "Bearer wrong")];
        house.ask("GET", "/api/queue", &wrong, "").await.problem(401);
    }
    time::advance(Duration::from_millis(19_500)).await;

    let told = log_in(&house, TOKEN).await;
    assert_eq!(told.status, StatusCode::TOO_MANY_REQUESTS);
    assert!(told.text.contains("Try again in 41 s") && told.text.contains("role=\"alert\""));
    assert_eq!(told.headers["retry-after"], "41");
    assert!(told.headers.get("set-cookie").is_none());
    let told = house.ask("GET", "/api/queue", &right, "").await;
    assert!(told.problem(429).contains("wrong tokens"));
    assert_eq!(told.headers["retry-after"], "41");
    house.get("/api/queue").await.problem(401);
    assert_eq!(house.get("/").await.status, StatusCode::UNAUTHORIZED, "the form is shown");

    let told = house.ask("GET", "/api/queue", &session, "").await;
    assert_eq!(told.status, StatusCode::OK, "a session goes on");
    let told = house.ask_from("192.0.2.7", "GET", "/api/queue", &right, "").await;
    assert_eq!(told.status, StatusCode::OK, "another address does not notice");

    time::advance(Duration::from_millis(40_500)).await;
    assert_eq!(house.ask("GET", "/api/queue", &right, "").await.status, StatusCode::OK);
    assert_eq!(log_in(&house, TOKEN).await.status, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn what_a_browser_left_open_sends_is_no_guess() {
    let house = open_house("127.0.0.1:0", "localhost:9900", Some(TOKEN)).await;
    for _ in 0..20 {
        house
            .ask("GET", "/api/queue", &[("cookie", "tollgate_session=1.0")], "")
            .await
            .problem(401);
        house.get("/").await;
    }
    assert_eq!(log_in(&house, TOKEN).await.status, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn off_loopback_any_name_is_answered_but_only_with_the_token() {
    let house = open_house("0.0.0.0:0", "tollgate.internal:9900", Some(TOKEN)).await;
    house.get("/api/queue").await.problem(401);
    let claim = format!("Bearer {TOKEN}");
    let told = house.ask("GET", "/api/queue", &[("authorization", &claim)], "").await;
    assert_eq!(told.status, StatusCode::OK);
}

#[tokio::test]
async fn a_socket_in_the_file_system_needs_neither_host_nor_token() {
    let house = open_house("unix:DIR/admin.sock", "", None).await;
    assert_eq!(house.get("/api/queue").await.status, StatusCode::OK);
}

#[tokio::test]
async fn every_answer_tells_the_browser_what_it_may_not_do() {
    let house = open_house("127.0.0.1:0", "localhost:9900", Some(TOKEN)).await;
    let evil = [("host", "evil.example")];
    for told in [
        house.get("/").await,
        house.get("/livez").await,
        house.get("/api/queue").await,
        house.ask("GET", "/", &evil, "").await,
    ] {
        let policy = told.headers["content-security-policy"].to_str().unwrap();
        for part in ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'"] {
            assert!(policy.contains(part), "{policy}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(told.headers["x-content-type-options"], "nosniff");
        assert_eq!(told.headers["referrer-policy"], "no-referrer");
        assert_eq!(told.headers["cache-control"], "no-store");
    }
}

#[tokio::test]
async fn a_body_has_a_limit() {
    let house = house().await;
    house.post("/api/cache/purge", vec![b' '; BODY_BYTES_MAX + 1]).await.problem(413);
    house.post("/api/cache/purge", vec![b' '; BODY_BYTES_MAX]).await.problem(400);
}
