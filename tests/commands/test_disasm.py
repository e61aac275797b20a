"""`sparsetrain disasm`: the three levels of a program's text, and refused arguments."""

import pytest
from helpers.command_line import TINY, run


def test_each_level_adds_detail():
    blocks = run("disasm", *TINY).output
    assert "pass forward 0 x[2,3,8,8] w[6,3,3,3] y[2,6,8,8] stride 1,1 pad 1,1" in blocks
    assert "SRC" not in blocks
    tasks = run("disasm", *TINY, "--level", "task", "--layer", "2").output
    assert "SRC  y[0,0,0,:] <- x[0,0:6,0:2,:] * w[0,0:6,:,:]  row_ops 12" in tasks
    assert "MSRC dx[0,0,0,:] <- dy[0,0:4,0:2,:] * rot(w[0:4,0,:,:]) where mask[0,0,0,:]" in tasks
    assert "OSRC dw[0,0,0,:] dw[0,0,1,:] dw[0,0,2,:] += x[:,0,:,:] . dy rows" in tasks
    assert "pass forward 0 " not in tasks
    operations = run("disasm", *TINY, "--level", "op", "--most", "2").output
    assert "    pe 0  x[0,0,0,:] * w[0,0,1,:]" in operations
    assert "more row operations" in operations


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--most", 2**64], "2147483648"),
        (["--layer", "3"], "to be a layer's name"),
        (["--chip", "eyeriss"], "did you mean"),
    ],
)
def test_bad_arguments_end_with_one_sentence_and_status_2(arguments, message):
    result = run("disasm", *TINY, *arguments)
    assert result.exit_code == 2
    assert message in result.output
    assert "Traceback" not in result.output
