//! Who a client is: what is asked of it, and SASL's exchange of messages.

use super::super::failure::Failure;
use super::super::protocol::xdr::CharBytes;
use super::Client;

const AUTH_NONE: i32 = 0;
const AUTH_SASL: i32 = 1;
const MECHANISM: &str = "SCRAM-SHA-256";

/// Whether it is over; whether there is no message; a message.
type Said = (bool, i32, CharBytes);

/// One of these ways has to be gone.
pub(crate) async fn list(client: Client, (): ()) -> Result<Vec<i32>, Failure> {
    // Where no password is asked for, the connection itself says who it is.
    Ok(vec![if client.wants_password() { AUTH_SASL } else { AUTH_NONE }])
}

pub(crate) async fn init(client: Client, (): ()) -> Result<&'static str, Failure> {
    client.begin_login()?;
    Ok(MECHANISM)
}

pub(crate) async fn start(
    client: Client,
    (mechanism, is_nothing, message): (String, i32, CharBytes),
) -> Result<Said, Failure> {
    if mechanism != MECHANISM {
        let text = format!("mechanism {mechanism:?} is not offered; {MECHANISM} is");
        return Err(Failure::authentication(&text));
    }
    if is_nothing != 0 {
        // It waits for the server, which has nothing to say before the client.
        return Ok((false, 1, CharBytes(Vec::new())));
    }
    let answer = client.first_of_login(plain(&message)).await?;
    Ok((false, 0, CharBytes(answer)))
}

pub(crate) async fn step(
    client: Client,
    (is_nothing, message): (i32, CharBytes),
) -> Result<Said, Failure> {
    let message = if is_nothing == 0 { plain(&message) } else { &[] };
    if client.is_asked() {
        let answer = client.last_of_login(message).await?;
        return Ok((true, 0, CharBytes(answer)));
    }
    let answer = client.first_of_login(message).await?;
    Ok((false, 0, CharBytes(answer)))
}

/// Some clients send the end of their string as well.
fn plain(message: &CharBytes) -> &[u8] {
    message.0.strip_suffix(&[0]).unwrap_or(&message.0)
}
