"""A prompt style: `<work>reasoning</work>`, a line break, `<result>answer</result>`."""

from r1exp.prompt.style import Tagged

WORK_RESULT = Tagged("work_result", ("<work>", "</work>", "<result>", "</result>"))
