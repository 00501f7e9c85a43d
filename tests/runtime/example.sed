# Cuts the example out of the top comment of edgec.h.
/^ \* -- example$/,/^ \* -- end$/{
/^ \* -- /d
s/^ \* \{0,5\}//p
}
