//! Ports of containers as clients write them: `80`, `80/udp`.

/// `80/tcp` in its one form.
///
/// # Errors
/// dockerd's text about what is no port.
pub fn port(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err("invalid port: value is empty".to_owned());
    }
    let (number, protocol) = text.split_once('/').unwrap_or((text, ""));
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    let problem = match number.parse::<u16>() {
        Ok(number) if is_number => {
            let protocol = if protocol.is_empty() { "tcp".to_owned() } else { protocol.to_lowercase() };
            return Ok(format!("{number}/{protocol}"));
        }
        _ if number.is_empty() => "value is empty",
        _ if is_number => "value out of range",
        _ => "invalid syntax",
    };
    Err(format!("invalid port '{number}': {problem}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_have_one_form() {
        let check = |text: &str, expected: Result<&str, &str>| {
            assert_eq!(port(text).as_deref().map_err(String::as_str), expected, "{text}");
        };
        check("80", Ok("80/tcp"));
        check("080/UDP", Ok("80/udp"));
        check("", Err("invalid port: value is empty"));
        check("/tcp", Err("invalid port '': value is empty"));
        check("19039;1230", Err("invalid port '19039;1230': invalid syntax"));
        check("+80", Err("invalid port '+80': invalid syntax"));
        check("65536/tcp", Err("invalid port '65536': value out of range"));
    }
}
