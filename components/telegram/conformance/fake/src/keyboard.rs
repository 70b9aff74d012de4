//! Buttons under messages.

use serde_json::Value;

use crate::methods::ApiError;
use crate::params::Params;

/// The longest data of an inline button, bytes.
const CALLBACK_BYTES_MAX: usize = 64;

/// Returns the inline keyboard of a call, checked; other kinds of keyboard leave no trace in the message.
pub(crate) fn reply_markup(params: &Params) -> Result<Option<Value>, ApiError> {
    let Some(markup) = params.structure("reply_markup")? else {
        return Ok(None);
    };
    let Some(rows) = markup.get("inline_keyboard") else {
        return Ok(None);
    };
    let rows = rows
        .as_array()
        .ok_or("Bad Request: field \"inline_keyboard\" must be of type Array")?;
    for row in rows {
        let row = row
            .as_array()
            .ok_or("Bad Request: field \"inline_keyboard\" must be an Array of Arrays")?;
        for button in row {
            check_button(button)?;
        }
    }
    Ok((!rows.is_empty()).then_some(markup))
}

fn check_button(button: &Value) -> Result<(), ApiError> {
    if button["text"].as_str().is_none_or(str::is_empty) {
        return Err("Bad Request: can't parse inline keyboard button: Field \"text\" must be of type String".into());
    }
    match button["callback_data"].as_str() {
        Some(data) if data.is_empty() || data.len() > CALLBACK_BYTES_MAX => {
            Err("Bad Request: BUTTON_DATA_INVALID".into())
        }
        None if button["url"].as_str().is_none() => Err(
            "Bad Request: can't parse inline keyboard button: Text buttons are unallowed in the inline keyboard".into(),
        ),
        _ => Ok(()),
    }
}
