"""Looking at recordings: plots, contact sheets, and a window to play them in.

::

    plot      a recording on one page: plot_numbers (what it shows), plot_heading, plot_panels, plot_strokes (how)
    sheet     a contact sheet
    window    a window to play it in: viewer (what each key does), player (what is due when), ahead (decoded for it),
              canvas (how it looks), facts (what is said of a page)
    napari    the same in napari
    drawing   boxes and points that a callback found, drawn into a picture; for all of them
"""
